/* Flash behind two small caches, one for instructions and one for data: fully associative, the least recently used line
   is replaced, and a miss reads only the part of a line that was asked for. Counts the reads of flash. */
#ifndef CACHE_H
#define CACHE_H
#include <stdbool.h>
#include <stdint.h>

enum { MOST_LINES = 256, MOST_RANGES = 4 };

struct line {
    uint64_t tag, used, valid; /* valid: a bit per read */
};
struct cache {
    unsigned lines, last;
    uint64_t clock, reads;
    struct line line[MOST_LINES];
};

static struct {
    unsigned line_bytes, read_bytes, ranges; /* no flash is simulated while there are no ranges */
    struct {
        uint64_t from, to;
    } range[MOST_RANGES];
    struct cache instructions, data;
} flash;

static bool in_flash(uint64_t address) {
    for (unsigned i = 0; i < flash.ranges; i++)
        if (address >= flash.range[i].from && address < flash.range[i].to) return true;
    return false;
}

/* The line that holds a tag, else the least recently used one, emptied. */
static struct line *find_line(struct cache *cache, uint64_t tag) {
    struct line *oldest = cache->line;
    if (cache->line[cache->last].tag == tag) return cache->line + cache->last;
    for (unsigned i = 0; i < cache->lines; i++) {
        struct line *line = cache->line + i;
        cache->last = i;
        if (line->tag == tag) return line;
        if (line->used < oldest->used) oldest = line;
    }
    cache->last = (unsigned)(oldest - cache->line);
    *oldest = (struct line){.tag = tag};
    return oldest;
}

static void touch(struct cache *cache, uint64_t address) {
    struct line *line = find_line(cache, address / flash.line_bytes);
    const uint64_t part = UINT64_C(1) << address % flash.line_bytes / flash.read_bytes;
    line->used = ++cache->clock;
    if (!(line->valid & part)) cache->reads++;
    line->valid |= part;
}

/* The fetch of all instructions from `from` up to `to`. */
static void fetch(uint64_t from, uint64_t to) {
    if (!in_flash(from)) return;
    for (uint64_t at = from - from % flash.read_bytes; at < to; at += flash.read_bytes) touch(&flash.instructions, at);
}

static void load(uint64_t address) {
    if (in_flash(address)) touch(&flash.data, address);
}

static void empty(struct cache *cache) {
    for (unsigned i = 0; i < cache->lines; i++) cache->line[i] = (struct line){.tag = UINT64_MAX};
    cache->last = 0;
    cache->reads = 0;
}
#endif
