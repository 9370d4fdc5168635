/* Vectors of a Cortex-M. A fault ends the program and says so. */
#include "core.h"

#include "port.h"

extern uint32_t image_stack_top;
void image_start(void);

#define CFSR (*(volatile uint32_t *)0xE000ED28) /* configurable fault status */

static void fault(void) {
    char words[] = "fault: status 0x........\n";
    for (int i = 0; i < 8; i++) words[16 + i] = "0123456789abcdef"[CFSR >> (28 - 4 * i) & 15];
    port_print(words);
    port_exit(99);
}

#if __ARM_FEATURE_MVE
/* Vector registers must be allowed before a compiler may use them: coprocessors 10 and 11 in CPACR. */
__attribute__((naked)) static void reset(void) {
    __asm__ volatile("ldr r0, =0xe000ed88\nldr r1, [r0]\norr r1, r1, #0x00f00000\nstr r1, [r0]\ndsb\nisb\nb image_start");
}
#else
#define reset image_start
#endif

__attribute__((section(".vectors"), used)) static void (*const vectors[])(void) = {
    (void (*)(void)) & image_stack_top, reset, fault, fault, fault, fault, fault, fault,
    fault, fault, fault, fault, fault, fault, fault, fault};
