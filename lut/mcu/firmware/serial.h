/* What a board offers to a program that is asked over a serial line: one file per board, serial_<board>.c. */
#ifndef SERIAL_H
#define SERIAL_H
#include <stdint.h>

/* Cycles of `cycle_count` per second. */
extern const uint32_t CLOCK_HZ;

/* Set clock, memories, line and cycle counter; called once, before anything else. */
void serial_start(void);
/* Whether a byte has arrived, which is then in *byte. */
int serial_get(uint8_t *byte);
/* Send a byte, waiting until there is room. */
void serial_put(uint8_t byte);
/* A counter of the core's cycles that wraps around at 2^32. */
uint32_t cycle_count(void);
#endif
