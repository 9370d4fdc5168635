/* The line protocol of boards. Lines end in '\n'; numbers are decimal, checksums CRC-32 in hexadecimal.

       board                                 host
       READY <program>                                         after reset
                                             HELLO <n>         in any state
       READY <program> <n>
                                             IN <bytes> <crc>  and the bytes
       OUT <bytes> <crc>  and the bytes
       CYCLES <n>                                              of the computation alone
       STACK <bytes>                                           that it used
                                             AGAIN             the same input once more
       CYCLES <n>
       ERROR <words>                                           instead of an answer; the board is ready again

   A request whose bytes stop coming for a second is dropped. port_print and port_exit speak the same protocol, so a
   fault is an ERROR too. */
#include "serve.h"

#include "port.h"
#include "serial.h"

enum { LINE = 48 };

static uint32_t crc32(const uint8_t *at, uint32_t bytes) {
    uint32_t crc = 0xffffffffu;
    while (bytes--) {
        crc ^= *at++;
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0xedb88320u & -(crc & 1));
    }
    return ~crc;
}

static void put_text(const char *text) {
    while (*text) serial_put((uint8_t)*text++);
}

static void put_number(uint32_t number, uint32_t base) {
    char digits[12] = "";
    int at = 11;
    do
        digits[--at] = "0123456789abcdef"[number % base];
    while (number /= base);
    put_text(digits + at);
}

static void put_line(const char *word, uint32_t number) {
    put_text(word);
    put_number(number, 10);
    serial_put('\n');
}

static void put_error(const char *words) {
    put_text("ERROR ");
    put_text(words);
    serial_put('\n');
}

void port_print(const char *text) { put_text(text); }

void port_exit(int status) {
    put_line("ERROR the program ended with status ", (uint32_t)status);
    for (;;) continue;
}

/* Whether a line arrived whole; it loses its end and a '\r' before it. */
static int get_line(char *line) {
    for (int at = 0;;) {
        uint8_t byte;
        while (!serial_get(&byte)) continue;
        if (byte == '\n') {
            if (at && at < LINE && line[at - 1] == '\r') at--;
            line[at < LINE ? at : 0] = 0;
            return at < LINE;
        }
        if (at < LINE) line[at++] = (char)byte;
    }
}

/* Whether all bytes arrived; what is beyond `room` is read and dropped. */
static int get_bytes(uint8_t *to, uint32_t bytes, uint32_t room) {
    for (uint32_t i = 0; i < bytes; i++) {
        uint8_t byte;
        uint32_t since = cycle_count();
        while (!serial_get(&byte))
            if (cycle_count() - since > CLOCK_HZ) return 0;
        if (i < room) to[i] = byte;
    }
    return 1;
}

/* Behind the digits at `at`, whose value goes to *number; 0 where there are none. */
static const char *parse(const char *at, uint32_t base, uint32_t *number) {
    const char *first = at;
    *number = 0;
    for (;; at++) {
        uint32_t digit = *at >= '0' && *at <= '9' ? (uint32_t)(*at - '0') : *at >= 'a' ? (uint32_t)(*at - 'a' + 10) : base;
        if (digit >= base) return at == first ? 0 : at;
        *number = *number * base + digit;
    }
}

static int starts(const char *line, const char *word) {
    while (*word)
        if (*line++ != *word++) return 0;
    return 1;
}

__attribute__((noipa)) static uint32_t timed(void (*run)(void)) {
    uint32_t begin = cycle_count();
    run();
    return cycle_count() - begin;
}

static void nothing(void) {}

/* Of the computation alone; 1 where the counter is too coarse to tell it from none. */
static uint32_t without(uint32_t empty, uint32_t cycles) { return cycles > empty ? cycles - empty : 1; }

/* What is wrong with a request for a computation, or 0. */
static const char *receive(const struct service *service, const char *line, struct output *out) {
    uint32_t bytes = 0, crc = 0;
    const char *at = parse(line + 3, 10, &bytes);
    if (!at || *at != ' ' || !(at = parse(at + 1, 16, &crc)) || *at) return "a request is IN <bytes> <crc>";
    if (!get_bytes(service->in, bytes, service->capacity)) return "the bytes of a request stopped coming";
    if (bytes > service->capacity) return "the input is larger than the memory for it";
    if (crc32(service->in, bytes) != crc) return "an input does not have its checksum";
    return service->prepare(bytes, out);
}

static void put_ready(const struct service *service, const char *token) {
    put_text("READY ");
    put_text(service->name);
    put_text(token);
    serial_put('\n');
}

static void put_output(struct output out) {
    put_text("OUT ");
    put_number(out.bytes, 10);
    serial_put(' ');
    put_number(crc32(out.at, out.bytes), 16);
    serial_put('\n');
    while (out.bytes--) serial_put(*out.at++);
}

void serve(const struct service *service) {
    char line[LINE];
    struct output out;
    int loaded = 0;
    const uint32_t empty = timed(nothing);
    put_ready(service, "");
    for (;;) {
        if (!get_line(line)) {
            put_error("a line is too long");
        } else if (starts(line, "HELLO ")) {
            put_ready(service, line + 5);
        } else if (starts(line, "IN ")) {
            const char *wrong = receive(service, line, &out);
            loaded = !wrong;
            if (wrong) {
                put_error(wrong);
                continue;
            }
            uint32_t before = stack_paint();
            uint32_t cycles = without(empty, timed(service->run));
            uint32_t stack = stack_used() - before;
            if ((wrong = service->check())) {
                loaded = 0;
                put_error(wrong);
                continue;
            }
            put_output(out);
            put_line("CYCLES ", cycles);
            put_line("STACK ", stack);
        } else if (starts(line, "AGAIN") && loaded) {
            put_line("CYCLES ", without(empty, timed(service->run)));
        } else {
            put_error("unknown request");
        }
    }
}
