/* What an image needs of the board or simulator that it runs on. */
#ifndef PORT_H
#define PORT_H
#include <stddef.h>
#include <stdint.h>

/* Print a string that ends in 0. */
void port_print(const char *text);
/* End the program; 0 is success. It does not return. */
void port_exit(int status) __attribute__((noreturn));

/* Between these two calls the simulator counts instructions. */
void mark_begin(void);
void mark_end(void);

/* Paint what is free of the stack, as start-up does; the bytes in use. */
uint32_t stack_paint(void);
/* Bytes of the stack that were in use or written since then. */
uint32_t stack_used(void);
#endif
