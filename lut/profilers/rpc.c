/* Runs and times one kernel on a device behind TVM's RPC, called by the server as a packed function. */
#include "rpc.h"

#include "timing.c"

extern kernel KERNEL;

struct run {
    void *pointers[9]; /* the kernel's eight, and the microseconds */
    size_t out, us;    /* bytes */
    int64_t windows;
    double window_us;
    char *shared;
};

static int body(void *with) {
    struct run *run = with;
    void **a = run->pointers;
    int failed = 0;
    if (run->windows)
        failed = time_kernel(KERNEL, a, THREADS, STRIDE, run->windows, run->window_us, a[8]);
    else
        for (int32_t part = 0; part < THREADS; part++) KERNEL(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], part);
    memcpy(run->shared, a[2], run->out);
    memcpy(run->shared + run->out, a[8], run->us);
    return failed;
}

/* run(eight arguments, us, windows, window_us, seconds): fills `us` (windows of float64; no windows: one call) and the
   third argument. Returns what `apart` does. */
int __tvm_ffi_run(void *self, const TVMFFIAny *args, int32_t count, TVMFFIAny *result) {
    (void)self;
    answer(result, -1);
    if (count != 12) return 0;
    struct run run = {.windows = args[9].v_int64, .window_us = args[10].v_float64};
    for (int i = 0; i < 9; i++) run.pointers[i] = data(tensor(args + i));
    run.out = bytes(tensor(args + 2)), run.us = bytes(tensor(args + 8));
    if (!(run.shared = shared_memory(run.out + run.us))) return 0;
    answer(result, apart(body, &run, args[11].v_int64));
    memcpy(run.pointers[2], run.shared, run.out);
    memcpy(run.pointers[8], run.shared + run.out, run.us);
    munmap(run.shared, run.out + run.us + 1);
    return 0;
}
