/* Runs and times one kernel on a device behind TVM's RPC, called by the server as a packed function.

   The kernel runs in a process of its own: one that crashes or hangs costs its row and not the server. */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <tvm/ffi/c_api.h>
#include <unistd.h>

#include "timing.c"

extern kernel KERNEL;

static DLTensor *tensor(const TVMFFIAny *any) {
    if (any->type_index == kTVMFFIDLTensorPtr) return any->v_ptr;
    if (any->type_index == kTVMFFITensor) return (DLTensor *)((char *)any->v_ptr + sizeof(TVMFFIObject));
    return 0;
}

static size_t bytes(const DLTensor *t) { return t ? t->shape[0] * (t->dtype.bits / 8) : 0; }

static void *data(const DLTensor *t) { return t ? (char *)t->data + t->byte_offset : 0; }

/* run(eight arguments, us, windows, window_us, seconds): fills `us` (windows of float64; no windows: one call) and the
   third argument. Returns 0, or the number of the signal that ended the kernel: SIGALRM after `seconds`. */
int __tvm_ffi_run(void *self, const TVMFFIAny *args, int32_t count, TVMFFIAny *result) {
    DLTensor *t[9];
    void *a[9];
    (void)self;
    memset(result, 0, sizeof *result);
    result->type_index = kTVMFFIInt;
    result->v_int64 = -1;
    if (count != 12) return 0;
    for (int i = 0; i < 9; i++) a[i] = data(t[i] = tensor(args + i));
    size_t out = bytes(t[2]), us = bytes(t[8]);
    char *shared = mmap(0, out + us + 1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 0;
    pid_t child = fork();
    if (child == 0) {
        signal(SIGALRM, SIG_DFL);
        alarm(args[11].v_int64);
        int failed = 0;
        if (args[9].v_int64)
            failed = time_kernel(KERNEL, a, THREADS, STRIDE, args[9].v_int64, args[10].v_float64, a[8]);
        else
            for (int32_t part = 0; part < THREADS; part++) KERNEL(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], part);
        memcpy(shared, a[2], out);
        memcpy(shared + out, a[8], us);
        _exit(failed ? SIGABRT : 0);
    }
    int status = -1;
    if (child > 0 && waitpid(child, &status, 0) == child) {
        memcpy(a[2], shared, out);
        memcpy(a[8], shared + out, us);
        result->v_int64 = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
    }
    munmap(shared, out + us + 1);
    return 0;
}
