/* Times one kernel, or a chain of them one after the other: the number of calls per window is found first, then each
   window's mean time per call, or per pass over the chain, is kept. Kernels of several threads run on as many, each on a
   core of its own; they wait for each other after every call, as in a deployed network. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include "barrier.h"

enum { MOST_THREADS = 256 };
typedef int32_t kernel(const void *in, const void *in2, void *out, const void *weights, const void *bias,
                       const void *mult, const void *params, void *workspace, int32_t part);

/* A kernel with its arguments; stride: from one thread's workspace to the next one's. */
typedef struct {
    kernel *f;
    void **a;
    size_t stride;
} step;

/* What all threads share. calls: of the next window, 0 to end. */
typedef struct {
    arrivals parts[MOST_THREADS];
    const step *chain;
    int32_t count, threads;
    long calls;
} team;
typedef struct {
    team *team;
    int32_t part;
    pthread_t thread;
} member;

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec * 1e-3;
}

/* An aligned local makes every call leave from the same stack offset within a page, in every process and in a deployed
   network, which does the same: spilled vectors cross cache lines, or don't, alike, and loads wait alike for stores
   whose addresses have the same last twelve bits. Left to chance that made 20 % of a small network's time. */
enum { PAGE = 4096 };
static double run(const step *chain, int32_t count, long calls) {
    char anchor[64] __attribute__((aligned(PAGE)));
    __asm__ volatile("" ::"r"(anchor) : "memory");
    kernel *f = chain->f;
    void **a = chain->a;
    double start = now_us();
    if (count == 1)
        for (long i = 0; i < calls; i++) f(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], 0);
    else
        for (long i = 0; i < calls; i++)
            for (int32_t k = 0; k < count; k++) {
                a = chain[k].a;
                chain[k].f(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], 0);
            }
    return now_us() - start;
}

static double run_part(team *t, int32_t part, long calls) {
    char anchor[64] __attribute__((aligned(PAGE)));
    __asm__ volatile("" ::"r"(anchor) : "memory");
    int32_t threads = t->threads, count = t->count;
    double start = now_us();
    for (long i = 0; i < calls; i++)
        for (int32_t k = 0; k < count; k++) {
            const step *l = t->chain + k;
            void **a = l->a, *workspace = a[7] ? (char *)a[7] + part * l->stride : 0;
            l->f(a[0], a[1], a[2], a[3], a[4], a[5], a[6], workspace, part);
            barrier(t->parts, threads, part);
        }
    return now_us() - start;
}

/* Keep the calling thread to the part's place among the cores that it may use. */
static void keep_to_core(int32_t part) {
    cpu_set_t may, one;
    if (pthread_getaffinity_np(pthread_self(), sizeof may, &may)) return;
    CPU_ZERO(&one);
    for (int core = 0; core < CPU_SETSIZE; core++)
        if (CPU_ISSET(core, &may) && part-- == 0) CPU_SET(core, &one);
    if (CPU_COUNT(&one)) pthread_setaffinity_np(pthread_self(), sizeof one, &one);
}

static void *help(void *of) {
    member *self = of;
    team *t = self->team;
    keep_to_core(self->part);
    for (;;) {
        barrier(t->parts, t->threads, self->part);
        if (!t->calls) return 0;
        run_part(t, self->part, t->calls);
    }
}

static double window(team *t, long calls) {
    if (t->threads == 1) return run(t->chain, t->count, calls);
    t->calls = calls;
    barrier(t->parts, t->threads, 0);
    return run_part(t, 0, calls);
}

/* The time of `calls` calls, to choose how many fill a window. Of several threads one that lost its core would make it a
   thousand times as long, and every window then a single call: the least of a few counts. */
static double trial(team *t, long calls) {
    double least = window(t, calls);
    for (int i = 0; t->threads > 1 && i < 4; i++) {
        double spent = window(t, calls);
        if (spent < least) least = spent;
    }
    return least;
}

/* Starts all but part 0. Returns 0, or the error of the one that could not be started; the others have then ended. */
static int start(team *t, member *members) {
    for (int32_t part = 1; part < t->threads; part++) {
        members[part] = (member){.team = t, .part = part};
        int error = pthread_create(&members[part].thread, 0, help, &members[part]);
        if (!error) continue;
        atomic_store(&t->parts[0].arrived, 1);
        for (int32_t absent = part; absent < t->threads; absent++) atomic_store(&t->parts[absent].arrived, 1);
        for (int32_t started = 1; started < part; started++) pthread_join(members[started].thread, 0);
        return error;
    }
    return 0;
}

/* us[windows], of a pass over the whole chain. Returns 0, or the error of a thread that could not be started. */
int time_chain(const step *chain, int32_t count, int32_t threads, int windows, double window_us, double *us) {
    static team t;
    static member members[MOST_THREADS];
    if (threads > MOST_THREADS) return EAGAIN;
    memset(&t, 0, sizeof t);
    t.chain = chain, t.count = count, t.threads = threads;
    int error = start(&t, members);
    if (error) return error;
    cpu_set_t before;
    int known = threads > 1 && !pthread_getaffinity_np(pthread_self(), sizeof before, &before);
    if (known) keep_to_core(0);
    long calls = 1;
    double spent = trial(&t, calls);
    while (spent < window_us / 2 && calls < 1L << 30) spent = trial(&t, calls *= 2);
    calls = (long)(calls * window_us / spent) + 1;
    window(&t, calls);
    for (int w = 0; w < windows; w++) us[w] = window(&t, calls) / calls;
    t.calls = 0;
    barrier(t.parts, threads, 0);
    for (int32_t part = 1; part < threads; part++) pthread_join(members[part].thread, 0);
    if (known) pthread_setaffinity_np(pthread_self(), sizeof before, &before);
    return 0;
}

int time_kernel(kernel *f, void **arguments, int32_t threads, size_t stride, int windows, double window_us, double *us) {
    step one = {f, arguments, stride};
    return time_chain(&one, 1, threads, windows, window_us, us);
}
