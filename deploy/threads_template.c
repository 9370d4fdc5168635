#include <pthread.h>
#include <signal.h>
enum { THREADS = $threads, SPIN_US = 50 };
$barrier
/* The caller is part 0 of every step, the other parts are threads of the library's own: started at the first inference,
   they wait for the next one, at first awake, after SPIN_US asleep. They end with the process. */
static struct {
    arrivals parts[THREADS];
    _Alignas(64) atomic_uint inferences; /* begun so far */
    atomic_int asleep;
    const uint8_t *image;
    $score *scores;
    pthread_mutex_t lock;
    pthread_cond_t more;
    enum { NONE, RUNNING, REFUSED } threads;
} team = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};

static void all_steps($parameters) {
$calls
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void await_inference(unsigned done) {
    int64_t until = now_ns() + SPIN_US * 1000;
    do {
        for (int i = 0; i < 32; i++) {
            if (atomic_load_explicit(&team.inferences, memory_order_acquire) != done) return;
            relax();
        }
    } while (now_ns() < until);
    pthread_mutex_lock(&team.lock);
    atomic_fetch_add(&team.asleep, 1); /* before the look at inferences, as begin looks after it has counted */
    while (atomic_load(&team.inferences) == done) pthread_cond_wait(&team.more, &team.lock);
    atomic_fetch_sub(&team.asleep, 1);
    pthread_mutex_unlock(&team.lock);
}

static void *work(void *part) {
    for (unsigned done = 0;; done++) {
        await_inference(done);
        all_steps(team.image, team.scores, (int32_t)(intptr_t)part);
    }
}

/* A forked child has no threads but the one that forked: it starts its own. */
static void forget(void) {
    memset(&team, 0, sizeof team);
    pthread_mutex_init(&team.lock, 0);
    pthread_cond_init(&team.more, 0);
}

/* Signals stay with the caller's threads. Where the system refuses a thread, the caller runs all parts. */
static void start(void) {
    static int watched;
    sigset_t every, before;
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &before);
    team.threads = RUNNING;
    for (intptr_t part = 1; part < THREADS && team.threads == RUNNING; part++) {
        pthread_t thread;
        if (pthread_create(&thread, 0, work, (void *)part)) team.threads = REFUSED;
        else pthread_detach(thread);
    }
    pthread_sigmask(SIG_SETMASK, &before, 0);
    if (!watched) watched = !pthread_atfork(0, 0, forget);
}

/* Hand an inference to the threads; the caller then runs part 0 of every step. */
static void begin(const uint8_t *image, $score *scores) {
    if (!team.threads) start();
    if (team.threads == REFUSED) return;
    team.image = image;
    team.scores = scores;
    atomic_fetch_add(&team.inferences, 1);
    if (!atomic_load(&team.asleep)) return;
    pthread_mutex_lock(&team.lock);
    pthread_cond_broadcast(&team.more);
    pthread_mutex_unlock(&team.lock);
}

static void one_step(int i, const uint8_t *image, $score *scores) {
    STEPS[i](image, scores, 0);
    if (team.threads == RUNNING) barrier(team.parts, THREADS, 0);
    else
        for (int32_t part = 1; part < THREADS; part++) STEPS[i](image, scores, part);
}

int32_t ${name}_run(const uint8_t *image, $score *scores) {
    begin(image, scores);
    if (team.threads == RUNNING) all_steps(image, scores, 0);
    else
        for (int i = 0; i < N; i++) one_step(i, image, scores);
    return 0;
}