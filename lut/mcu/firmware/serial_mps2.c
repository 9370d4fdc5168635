/* Arm's MPS2 boards, as QEMU has them: UART 0 and timer 0 of the CMSDK (Arm DDI 0479). QEMU's cycle counter stands still, so
   cycles are those of the timer, at 25 MHz: good for testing the line, not for measuring. */
#include "serial.h"

#define UART ((volatile uint32_t *)0x40004000)
#define TIMER ((volatile uint32_t *)0x40000000)
enum { DATA = 0, STATE = 1, CONTROL = 2, DIVISOR = 4 }; /* UART, in words */
enum { TIMER_CONTROL = 0, TIMER_VALUE = 1, TIMER_RELOAD = 2 };
enum { SENDING = 1, ARRIVED = 2 };

const uint32_t CLOCK_HZ = 25000000;

void serial_start(void) {
    UART[DIVISOR] = CLOCK_HZ / 115200;
    UART[CONTROL] = 3;
    TIMER[TIMER_RELOAD] = 0xffffffffu;
    TIMER[TIMER_VALUE] = 0xffffffffu;
    TIMER[TIMER_CONTROL] = 1;
}

int serial_get(uint8_t *byte) {
    if (!(UART[STATE] & ARRIVED)) return 0;
    *byte = (uint8_t)UART[DATA];
    return 1;
}

void serial_put(uint8_t byte) {
    while (UART[STATE] & SENDING) continue;
    UART[DATA] = byte;
}

uint32_t cycle_count(void) { return -TIMER[TIMER_VALUE]; }
