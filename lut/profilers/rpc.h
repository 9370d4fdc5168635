/* What the functions that TVM's RPC server calls have in common: their tensors, and a process for what may crash. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <tvm/ffi/c_api.h>
#include <unistd.h>

static DLTensor *tensor(const TVMFFIAny *any) {
    if (any->type_index == kTVMFFIDLTensorPtr) return any->v_ptr;
    if (any->type_index == kTVMFFITensor) return (DLTensor *)((char *)any->v_ptr + sizeof(TVMFFIObject));
    return 0;
}

static size_t bytes(const DLTensor *t) { return t ? t->shape[0] * (t->dtype.bits / 8) : 0; }

static void *data(const DLTensor *t) { return t ? (char *)t->data + t->byte_offset : 0; }

static char *shared_memory(size_t size) {
    char *pages = mmap(0, size + 1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return pages == MAP_FAILED ? 0 : pages;
}

/* body(with) in a process of its own, which costs the server nothing when it crashes or hangs. Returns 0, SIGABRT when
   body did not, or the number of the signal that ended it: SIGALRM after `seconds`; -1 when none could be started. */
static int64_t apart(int (*body)(void *), void *with, int64_t seconds) {
    pid_t child = fork();
    if (child == 0) {
        signal(SIGALRM, SIG_DFL);
        alarm(seconds);
        _exit(body(with) ? SIGABRT : 0);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child) return -1;
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

/* The result of a packed function, which every one of them sets. */
static int answer(TVMFFIAny *result, int64_t value) {
    memset(result, 0, sizeof *result);
    result->type_index = kTVMFFIInt;
    result->v_int64 = value;
    return 0;
}
