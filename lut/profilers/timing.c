/* Times one kernel: the number of calls per window is found first, then each window's mean time per call is kept. */
#include <stdint.h>
#include <time.h>

typedef int32_t kernel(const void *in, const void *in2, void *out, const void *weights, const void *bias,
                       const void *mult, const void *params, void *workspace);

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec * 1e-3;
}

/* An aligned local makes every call leave from the same stack offset within a cache line: spilled vectors then cross
   lines, or don't, alike in every process and in a deployed network, which does the same. */
static double run(kernel *f, void **a, long calls) {
    char anchor[64] __attribute__((aligned(64)));
    __asm__ volatile("" ::"r"(anchor) : "memory");
    double start = now_us();
    for (long i = 0; i < calls; i++) f(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
    return now_us() - start;
}

void time_kernel(kernel *f, void **arguments, int windows, double window_us, double *us) {
    long calls = 1;
    double spent = run(f, arguments, calls);
    while (spent < window_us / 2 && calls < 1L << 30) spent = run(f, arguments, calls *= 2);
    calls = (long)(calls * window_us / spent) + 1;
    run(f, arguments, calls);
    for (int w = 0; w < windows; w++) us[w] = run(f, arguments, calls) / calls;
}
