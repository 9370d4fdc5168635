/* Runs and times a deployed network on a device behind TVM's RPC. Compiled with NETWORK, its name, and linked with its
   library, which lies beside it on the device. */
#include "rpc.h"

#include <stdlib.h>

#define JOIN(a, b) a##b
#define NAMED(name, suffix) JOIN(name, suffix)

extern int32_t NAMED(NETWORK, _run)(const uint8_t *image, void *scores);
extern void NAMED(NETWORK, _time)(const uint8_t *image, void *scores, int windows, double window_us, uint8_t *junk,
                                  size_t size, double *us);
extern void NAMED(NETWORK, _time_steps)(const uint8_t *image, void *scores, int windows, double window_us, double *us);

enum { IMAGES, HOT, COLD, STEPS };

struct job {
    int64_t what, windows;
    double window_us;
    uint8_t *images;
    size_t count, image_bytes, score_bytes, junk_bytes; /* of one image and its scores */
    char *out;                                          /* scores, or microseconds */
};

static void *buffer(size_t size) { return aligned_alloc(64, (size + 127) / 64 * 64); }

static int body(void *with) {
    struct job *job = with;
    uint8_t *image = buffer(job->image_bytes), *scores = buffer(job->score_bytes);
    if (!image || !scores) return 1;
    memset(image, 0, job->image_bytes);
    for (size_t i = 0; job->what == IMAGES && i < job->count; i++) {
        memcpy(image, job->images + i * job->image_bytes, job->image_bytes);
        NAMED(NETWORK, _run)(image, scores);
        memcpy(job->out + i * job->score_bytes, scores, job->score_bytes);
    }
    uint8_t *junk = job->what == COLD ? calloc(job->junk_bytes, 1) : 0;
    if (job->what == COLD && !junk) return 1;
    if (job->what == HOT || job->what == COLD)
        NAMED(NETWORK, _time)(image, scores, job->windows, job->window_us, junk, job->junk_bytes, (double *)job->out);
    if (job->what == STEPS)
        NAMED(NETWORK, _time_steps)(image, scores, job->windows, job->window_us, (double *)job->out);
    return 0;
}

/* run(what, images, out, image_bytes, score_bytes, windows, window_us, junk_bytes, seconds): fills `out`, bytes. Returns
   what `apart` does. */
int __tvm_ffi_run(void *self, const TVMFFIAny *args, int32_t count, TVMFFIAny *result) {
    (void)self;
    answer(result, -1);
    if (count != 9) return 0;
    struct job job = {.what = args[0].v_int64, .windows = args[5].v_int64, .window_us = args[6].v_float64};
    job.images = data(tensor(args + 1));
    job.image_bytes = args[3].v_int64, job.score_bytes = args[4].v_int64, job.junk_bytes = args[7].v_int64;
    job.count = bytes(tensor(args + 1)) / job.image_bytes;
    size_t size = bytes(tensor(args + 2));
    if (!(job.out = shared_memory(size))) return 0;
    answer(result, apart(body, &job, args[8].v_int64));
    memcpy(data(tensor(args + 2)), job.out, size);
    munmap(job.out, size + 1);
    return 0;
}
