/* Files of the simulator's host, by Arm's semihosting, which RISC-V has too. */
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H
#include <stdint.h>

enum host_mode { HOST_READ = 1, HOST_WRITE = 5 }; /* fopen's rb, wb */

/* A handle, or -1. */
int host_open(const char *name, enum host_mode mode);
/* These end the program when the host does not read or write all of it. */
void host_read(int handle, void *to, uint32_t bytes);
void host_write(int handle, const void *from, uint32_t bytes);
void host_close(int handle);
#endif
