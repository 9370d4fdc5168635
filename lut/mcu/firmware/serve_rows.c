/* Kernels on a board, each on arguments from the host. An input holds nine words (which kernel, and the bytes of its
   eight arguments, with the top bit where they follow) and the arguments that follow, each padded to a multiple of 64.
   The output is the third argument. The others lie behind, and the bytes between them must stay as they are. */
#include "rows.h"
#include "port.h"
#include "serial.h"
#include "serve.h"

enum { COUNT = 8, OUT = 2, GUARD = 0xa5, HEADER = 64 };
static const uint32_t FOLLOWS = 1u << 31;

static uint8_t pool[POOL_BYTES] __attribute__((aligned(64)));
static struct {
    uint32_t row, sizes[COUNT];
} request;
static uint8_t *pointers[COUNT];

static uint32_t room(uint32_t bytes) { return bytes + 64 - (bytes & 63); }

static const char *prepare(uint32_t bytes, struct output *out) {
    uint8_t *behind = pool + room(bytes);
    uint32_t at = HEADER;
    __builtin_memcpy(&request, pool, sizeof request);
    if (bytes < HEADER || request.row >= ROWS) return "there is no such row";
    for (int i = 0; i < COUNT; i++) {
        uint32_t size = request.sizes[i] & ~FOLLOWS;
        if (!size) {
            pointers[i] = 0;
        } else if (request.sizes[i] & FOLLOWS) {
            pointers[i] = pool + at;
            at += room(size);
            if (at > bytes) return "an argument is cut off";
        } else {
            if (size > (uint32_t)(pool + sizeof pool - behind) || room(size) > (uint32_t)(pool + sizeof pool - behind))
                return "the arguments are larger than the memory for them";
            pointers[i] = behind;
            behind += room(size);
            __builtin_memset(pointers[i], 0, size);
        }
        for (uint8_t *guard = pointers[i] + size; size && guard < pointers[i] + room(size); guard++) *guard = GUARD;
        request.sizes[i] = size;
    }
    out->at = pointers[OUT];
    out->bytes = request.sizes[OUT];
    return 0;
}

static void run(void) {
    KERNELS[request.row](pointers[0], pointers[1], pointers[2], pointers[3], pointers[4], pointers[5], pointers[6],
                         pointers[7]);
}

static const char *check(void) {
    for (int i = 0; i < COUNT; i++) {
        const uint8_t *guard = pointers[i] + request.sizes[i], *end = pointers[i] + room(request.sizes[i]);
        for (; request.sizes[i] && guard < end; guard++)
            if (*guard != GUARD) return "a kernel wrote behind one of its arguments";
    }
    return 0;
}

int main(void) {
    static const struct service rows = {"rows-" PROGRAM, pool, sizeof pool, prepare, run, check};
    serial_start();
    serve(&rows);
}
