/* The network on a board: images and scores travel over its serial line (serve.c has the protocol). */
#include "NETWORK.h"
#include "serial.h"
#include "serve.h"

static uint8_t image[IMAGE_BYTES] __attribute__((aligned(4)));
static int16_t scores[SCORES] __attribute__((aligned(4)));

static const char *prepare(uint32_t bytes, struct output *out) {
    out->at = (const uint8_t *)scores;
    out->bytes = sizeof scores;
    return bytes == sizeof image ? 0 : "an image has another number of bytes";
}

static void run(void) { NETWORK_run(image, scores); }

static const char *check(void) { return 0; }

int main(void) {
    static const struct service network = {"PROGRAM", image, sizeof image, prepare, run, check};
    serial_start();
    serve(&network);
}
