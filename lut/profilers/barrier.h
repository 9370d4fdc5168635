/* Several threads, each one `part` of THREADS, wait for each other. Every part counts how often it arrived, in a cache
   line of its own, and looks until all others did as often: no lock, and one transfer of a line from core to core. A
   thread that had to wait for long gives its core away, since the one that it waits for may need it. */
#ifndef BARRIER_H
#define BARRIER_H
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

typedef struct {
    _Alignas(64) atomic_uint arrived;
} arrivals;

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline void barrier(arrivals *parts, int32_t threads, int32_t part) {
    unsigned mine = atomic_load_explicit(&parts[part].arrived, memory_order_relaxed) + 1;
    atomic_store_explicit(&parts[part].arrived, mine, memory_order_release);
    for (int32_t other = 0; other < threads; other++)
        for (int spins = 0; (int)(atomic_load_explicit(&parts[other].arrived, memory_order_acquire) - mine) < 0; spins++)
            if (spins < 1000) relax();
            else sched_yield();
}
#endif
