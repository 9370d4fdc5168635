/* The network in a simulator: images from the host's file images.bin, scores to scores.bin, as they lie in memory, and
   those of the last image printed. images.bin begins with the number of images. Between the marks of every inference
   the simulator counts. */
#include "NETWORK.h"
#include "port.h"
#include "semihosting.h"

static uint8_t image[IMAGE_BYTES] __attribute__((aligned(4)));
static int16_t scores[SCORES] __attribute__((aligned(4)));

static void print_number(const char *what, int32_t number) {
    char digits[12] = "";
    int at = 11;
    uint32_t size = number < 0 ? -(uint32_t)number : (uint32_t)number;
    do
        digits[--at] = (char)('0' + size % 10);
    while (size /= 10);
    if (number < 0) digits[--at] = '-';
    port_print(what);
    port_print(digits + at);
    port_print("\n");
}

int main(void) {
    uint32_t count;
    int in = host_open("images.bin", HOST_READ), out = host_open("scores.bin", HOST_WRITE);
    host_read(in, &count, sizeof count);
    stack_paint();
    for (uint32_t i = 0; i < count; i++) {
        host_read(in, image, sizeof image);
        mark_begin();
        NETWORK_run(image, scores);
        mark_end();
        host_write(out, scores, sizeof scores);
    }
    host_close(in), host_close(out);
    uint32_t stack = stack_used();
    for (int i = 0; i < SCORES; i++) print_number("score ", scores[i]);
    print_number("stack ", (int32_t)stack);
    return 0;
}
