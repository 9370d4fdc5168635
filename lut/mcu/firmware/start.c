/* Start-up: .data and .bss, a painted stack, main. core.c jumps here with a stack. */
#include "core.h"
#include "port.h"

extern uint32_t image_data_load, image_data, image_data_end, image_bss, image_bss_end, image_stack, image_stack_top;
int main(void);

enum { PAINT = 0x5ac3e1f7 };

void image_start(void) {
    const uint32_t *from = &image_data_load;
    for (uint32_t *to = &image_data; to < &image_data_end;) *to++ = *from++;
    for (uint32_t *to = &image_bss; to < &image_bss_end;) *to++ = 0;
    stack_paint();
    port_exit(main());
}

__attribute__((noinline, optimize("no-shrink-wrap"))) uint32_t stack_paint(void) {
    uint32_t *top;
    __asm__ volatile(READ_STACK_POINTER : "=r"(top));
    for (uint32_t *to = &image_stack; to < top;) *to++ = PAINT;
    return (uint32_t)((const char *)&image_stack_top - (const char *)top);
}

uint32_t stack_used(void) {
    const uint32_t *at = &image_stack;
    while (at < &image_stack_top && *at == PAINT) at++;
    return (uint32_t)((const char *)&image_stack_top - (const char *)at);
}
