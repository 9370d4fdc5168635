/* The three functions that the compiler may call by itself. */
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *to, const void *from, size_t size) {
    uint8_t *d = to;
    const uint8_t *s = from;
    while (size--) *d++ = *s++;
    return to;
}

void *memset(void *to, int value, size_t size) {
    uint8_t *d = to;
    while (size--) *d++ = (uint8_t)value;
    return to;
}

void *memmove(void *to, const void *from, size_t size) {
    uint8_t *d = to;
    const uint8_t *s = from;
    if (d < s) return memcpy(to, from, size);
    while (size--) d[size] = s[size];
    return to;
}
