/* A program on a board that computes outputs of inputs which arrive over a serial line. */
#ifndef SERVE_H
#define SERVE_H
#include <stdint.h>

struct output {
    const uint8_t *at;
    uint32_t bytes;
};

struct service {
    const char *name;  /* said when the board is ready, so that the host knows that it talks to the right program */
    uint8_t *in;       /* where an input goes */
    uint32_t capacity; /* bytes there */
    /* Called once per input of so many bytes: where its output will be; 0, or what is wrong with the input. */
    const char *(*prepare)(uint32_t bytes, struct output *out);
    /* The computation that is timed; it may be called several times for one input. */
    void (*run)(void);
    /* What is wrong after it, or 0. */
    const char *(*check)(void);
};

/* Answer requests for ever. */
void serve(const struct service *service) __attribute__((noreturn));
#endif
