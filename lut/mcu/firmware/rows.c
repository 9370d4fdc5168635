/* Runs kernels one after another on arguments from the host's file `rows.in`, between marks; outputs go to `rows.out`.
   Per kernel, rows.in holds the bytes of its eight arguments (lut/kernels/signature.py), the bytes left free before each,
   multiples of 64, and then the arguments themselves; rows.out gets the stack that the call used, in bytes, and the third
   argument. Arguments lie at multiples of 64 in a pool of the board's, constants in the HELD_BYTES behind it, and the
   bytes behind them must stay as they are. */
#include "port.h"
#include "rows.h"
#include "semihosting.h"

enum { COUNT = 8, OUT = 2, FIRST_CONSTANT = 3, LAST_CONSTANT = 6, GUARD = 0xa5 };

static uint8_t *pointers[COUNT];
static uint32_t sizes[COUNT], gaps[COUNT];

static uint8_t *place(uint8_t *at, int i) {
    at += gaps[i];
    uint8_t *end = at + sizes[i] + 64 - (sizes[i] & 63);
    pointers[i] = sizes[i] ? at : 0;
    for (uint8_t *guard = at + sizes[i]; guard < end; guard++) *guard = GUARD;
    return end;
}

static void check(const uint8_t *at, int i) {
    const uint8_t *end = at + sizes[i] + 64 - (sizes[i] & 63);
    for (const uint8_t *guard = at + sizes[i]; guard < end; guard++) {
        if (*guard == GUARD) continue;
        port_print("fault: a kernel wrote behind one of its arguments\n");
        port_exit(97);
    }
}

/* Out of main's sight, so that what is counted does not depend on how many rows there are. */
__attribute__((noipa)) static void measure(kernel *run, uint8_t *const *p) {
    mark_begin();
    run(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]);
    mark_end();
}

int main(void) {
    int in = host_open("rows.in", HOST_READ), out = host_open("rows.out", HOST_WRITE);
    for (int row = 0; row < ROWS; row++) {
        uint8_t *next = (uint8_t *)POOL, *held = next + POOL_BYTES;
        host_read(in, sizes, sizeof sizes);
        host_read(in, gaps, sizeof gaps);
        for (int i = 0; i < COUNT; i++) {
            if (i < FIRST_CONSTANT || i > LAST_CONSTANT)
                next = place(next, i);
            else
                held = place(held, i);
            if (next > (uint8_t *)POOL + POOL_BYTES || held > (uint8_t *)POOL + POOL_BYTES + HELD_BYTES) {
                port_print("fault: the arguments are larger than the pool\n");
                port_exit(96);
            }
            host_read(in, pointers[i], sizes[i]);
        }
        uint32_t before = stack_paint();
        measure(KERNELS[row], pointers);
        uint32_t used = stack_used() - before;
        for (int i = 0; i < COUNT; i++)
            if (sizes[i]) check(pointers[i], i);
        host_write(out, &used, sizeof used);
        host_write(out, pointers[OUT], sizes[OUT]);
    }
    host_close(in), host_close(out);
    return 0;
}
