/* The port of simulators: semihosting for text, files and the end, and two functions as marks. */
#include "semihosting.h"

#include "core.h"
#include "port.h"

enum { SYS_OPEN = 1, SYS_CLOSE = 2, SYS_WRITE0 = 4, SYS_WRITE = 5, SYS_READ = 6, SYS_EXIT_EXTENDED = 0x20 };
enum { APPLICATION_EXIT = 0x20026 };

void port_print(const char *text) { semihosting_call(SYS_WRITE0, text); }

void port_exit(int status) {
    const uint32_t block[2] = {APPLICATION_EXIT, (uint32_t)status};
    semihosting_call(SYS_EXIT_EXTENDED, block);
    for (;;) continue;
}

int host_open(const char *name, enum host_mode mode) {
    uint32_t length = 0;
    while (name[length]) length++;
    const uint32_t block[3] = {(uint32_t)name, (uint32_t)mode, length};
    return semihosting_call(SYS_OPEN, block);
}

static void transfer(int operation, int handle, const void *with, uint32_t bytes) {
    const uint32_t block[3] = {(uint32_t)handle, (uint32_t)with, bytes};
    if (bytes && semihosting_call(operation, block)) {
        port_print("fault: a file of the host is too short or cannot be written\n");
        port_exit(98);
    }
}

void host_read(int handle, void *to, uint32_t bytes) { transfer(SYS_READ, handle, to, bytes); }

void host_write(int handle, const void *from, uint32_t bytes) { transfer(SYS_WRITE, handle, from, bytes); }

void host_close(int handle) {
    const uint32_t block[1] = {(uint32_t)handle};
    semihosting_call(SYS_CLOSE, block);
}

__attribute__((noinline)) void mark_begin(void) { mark(1); }
__attribute__((noinline)) void mark_end(void) { mark(0); }
