/* Start-up of a Cortex-M: vectors, .data and .bss, a painted stack, main. A fault ends the program and says so. */
#include "port.h"

extern uint32_t image_data_load, image_data, image_data_end, image_bss, image_bss_end, image_stack, image_stack_top;
int main(void);

enum { PAINT = 0x5ac3e1f7 };
#define CFSR (*(volatile uint32_t *)0xE000ED28) /* configurable fault status */

void Reset_Handler(void) {
    const uint32_t *from = &image_data_load;
    for (uint32_t *to = &image_data; to < &image_data_end;) *to++ = *from++;
    for (uint32_t *to = &image_bss; to < &image_bss_end;) *to++ = 0;
    stack_paint();
    port_exit(main());
}

__attribute__((noinline)) uint32_t stack_paint(void) {
    uint32_t *top;
    __asm__ volatile("mov %0, sp" : "=r"(top));
    for (uint32_t *to = &image_stack; to < top;) *to++ = PAINT;
    return (uint32_t)((const char *)&image_stack_top - (const char *)top);
}

uint32_t stack_used(void) {
    const uint32_t *at = &image_stack;
    while (at < &image_stack_top && *at == PAINT) at++;
    return (uint32_t)((const char *)&image_stack_top - (const char *)at);
}

static void fault(void) {
    char words[] = "fault: status 0x........\n";
    for (int i = 0; i < 8; i++) words[16 + i] = "0123456789abcdef"[CFSR >> (28 - 4 * i) & 15];
    port_print(words);
    port_exit(99);
}

__attribute__((section(".vectors"), used)) static void (*const vectors[])(void) = {
    (void (*)(void)) & image_stack_top, Reset_Handler, fault, fault, fault, fault, fault, fault,
    fault, fault, fault, fault, fault, fault, fault, fault};
