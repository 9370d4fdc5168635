/* The port of simulators: Arm's semihosting for text, files and the end, two empty functions as marks. */
#include "semihosting.h"

#include "port.h"

enum { SYS_OPEN = 1, SYS_CLOSE = 2, SYS_WRITE0 = 4, SYS_WRITE = 5, SYS_READ = 6, SYS_EXIT_EXTENDED = 0x20 };
enum { APPLICATION_EXIT = 0x20026 };

static int call(int operation, const void *argument) {
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void port_print(const char *text) { call(SYS_WRITE0, text); }

void port_exit(int status) {
    const uint32_t block[2] = {APPLICATION_EXIT, (uint32_t)status};
    call(SYS_EXIT_EXTENDED, block);
    for (;;) continue;
}

int host_open(const char *name, enum host_mode mode) {
    uint32_t length = 0;
    while (name[length]) length++;
    const uint32_t block[3] = {(uint32_t)name, (uint32_t)mode, length};
    return call(SYS_OPEN, block);
}

static void transfer(int operation, int handle, const void *with, uint32_t bytes) {
    const uint32_t block[3] = {(uint32_t)handle, (uint32_t)with, bytes};
    if (bytes && call(operation, block)) {
        port_print("fault: a file of the host is too short or cannot be written\n");
        port_exit(98);
    }
}

void host_read(int handle, void *to, uint32_t bytes) { transfer(SYS_READ, handle, to, bytes); }

void host_write(int handle, const void *from, uint32_t bytes) { transfer(SYS_WRITE, handle, from, bytes); }

void host_close(int handle) {
    const uint32_t block[1] = {(uint32_t)handle};
    call(SYS_CLOSE, block);
}

__attribute__((noinline)) void mark_begin(void) { __asm__ volatile("" ::: "memory"); }
__attribute__((noinline)) void mark_end(void) { __asm__ volatile("" ::: "memory"); }
