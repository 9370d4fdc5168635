/* A TCG plugin of QEMU (interface version 1, QEMU 6.0 and later): exact counts of basic blocks, of the edges between
   them and of unaligned accesses, between the calls of two functions.

   For every such region it writes to the file `out`
       R <instructions>
       B <first address> <instructions> <times>         a block of consecutive instructions
       E <last address> <next block's address> <times>  what was executed after a block's last instruction
       U <address> <extra accesses>                     unaligned loads and stores: of an Arm each additional access, which
                                                        cuts at halfwords; with crossing=1 those across two words
       F <by instructions> <by data>                    reads of flash (cache.h), where its ranges are given
   Debian packages no qemu-plugin.h, so what is needed of it is declared here. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache.h"

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
enum { NO_REGISTERS = 0, READ_AND_WRITE = 3 };
typedef void translated(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void executed(unsigned, void *);
typedef void accessed(unsigned, qemu_plugin_meminfo_t, uint64_t, void *);
typedef void ended(qemu_plugin_id_t, void *);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated *);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, executed *, int, void *);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, accessed *, int, int, void *);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, ended *, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
unsigned qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t);
bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

struct access {
    uint64_t address, unaligned;
    struct access *next;
};
struct block {
    uint64_t first, last, behind, times;
    size_t instructions;
    struct edge *edges;
    struct block *next;
};
struct edge {
    struct block *to;
    uint64_t times;
    struct edge *next;
};

static struct block *blocks, *previous;
static struct access *accesses;
static uint64_t begin, end, instructions;
static bool counting, crossing;
static FILE *out;

static void write_region(void) {
    fprintf(out, "R %" PRIu64 "\n", instructions);
    for (struct block *b = blocks; b; b = b->next) {
        if (b->times) fprintf(out, "B %" PRIx64 " %zu %" PRIu64 "\n", b->first, b->instructions, b->times);
        b->times = 0;
        for (struct edge *e = b->edges; e; e = e->next) {
            if (e->times) fprintf(out, "E %" PRIx64 " %" PRIx64 " %" PRIu64 "\n", b->last, e->to->first, e->times);
            e->times = 0;
        }
    }
    for (struct access *a = accesses; a; a = a->next) {
        if (a->unaligned) fprintf(out, "U %" PRIx64 " %" PRIu64 "\n", a->address, a->unaligned);
        a->unaligned = 0;
    }
    if (flash.ranges) fprintf(out, "F %" PRIu64 " %" PRIu64 "\n", flash.instructions.reads, flash.data.reads);
    instructions = 0;
}

static void count_edge(struct block *from, struct block *to) {
    struct edge **at = &from->edges;
    while (*at && (*at)->to != to) at = &(*at)->next;
    if (!*at) {
        *at = calloc(1, sizeof **at);
        (*at)->to = to;
    }
    struct edge *found = *at;
    found->times++;
    *at = found->next; /* to the front: the next search is short */
    found->next = from->edges;
    from->edges = found;
}

static void on_block(unsigned cpu, void *data) {
    (void)cpu;
    struct block *block = data;
    if (block->first == begin) {
        counting = true;
        previous = NULL;
        empty(&flash.instructions), empty(&flash.data);
        return;
    }
    if (!counting) return;
    if (block->first == end) {
        counting = false;
        write_region();
        return;
    }
    instructions += block->instructions;
    block->times++;
    if (flash.ranges) fetch(block->first, block->behind);
    if (previous) count_edge(previous, block);
    previous = block;
}

static void on_access(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t address, void *data) {
    (void)cpu;
    if (!counting) return;
    if (flash.ranges && !qemu_plugin_mem_is_store(info)) load(address);
    unsigned shift = qemu_plugin_mem_size_shift(info), at = address & 3;
    if (crossing)
        ((struct access *)data)->unaligned += at + (1u << shift) > 4;
    else if (shift == 1)
        ((struct access *)data)->unaligned += at & 1;
    else if (shift == 2 && at)
        ((struct access *)data)->unaligned += at == 2 ? 1 : 2;
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    struct block *block = calloc(1, sizeof *block);
    block->instructions = qemu_plugin_tb_n_insns(tb);
    block->first = qemu_plugin_tb_vaddr(tb);
    struct qemu_plugin_insn *last = qemu_plugin_tb_get_insn(tb, block->instructions - 1);
    block->last = qemu_plugin_insn_vaddr(last);
    block->behind = block->last + qemu_plugin_insn_size(last);
    block->next = blocks;
    blocks = block;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, NO_REGISTERS, block);
    for (size_t i = 0; i < block->instructions; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(tb, i);
        struct access *access = calloc(1, sizeof *access);
        access->address = qemu_plugin_insn_vaddr(instruction);
        access->next = accesses;
        accesses = access;
        qemu_plugin_register_vcpu_mem_cb(instruction, on_access, NO_REGISTERS, READ_AND_WRITE, access);
    }
}

static void on_end(qemu_plugin_id_t id, void *data) {
    (void)id, (void)data;
    fclose(out);
}

static bool add_range(const char *text) {
    char *dash;
    if (flash.ranges == MOST_RANGES) return false;
    flash.range[flash.ranges].from = strtoull(text, &dash, 0);
    if (*dash != '-') return false;
    flash.range[flash.ranges++].to = strtoull(dash + 1, NULL, 0);
    return true;
}

/* Arguments: begin=ADDRESS, end=ADDRESS, out=FILE; crossing=1; of flash any number of flash=FROM-TO, and line=BYTES, read=BYTES,
   instructions=LINES, data=LINES. */
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int count, char **arguments) {
    (void)info;
    for (int i = 0; i < count; i++) {
        char *value = strchr(arguments[i], '=');
        if (!value++) return 1;
        if (!strncmp(arguments[i], "begin=", 6)) begin = strtoull(value, NULL, 0);
        if (!strncmp(arguments[i], "end=", 4)) end = strtoull(value, NULL, 0);
        if (!strncmp(arguments[i], "out=", 4)) out = fopen(value, "w");
        if (!strncmp(arguments[i], "crossing=", 9)) crossing = atoi(value);
        if (!strncmp(arguments[i], "flash=", 6) && !add_range(value)) return 1;
        if (!strncmp(arguments[i], "line=", 5)) flash.line_bytes = (unsigned)atoi(value);
        if (!strncmp(arguments[i], "read=", 5)) flash.read_bytes = (unsigned)atoi(value);
        if (!strncmp(arguments[i], "instructions=", 13)) flash.instructions.lines = (unsigned)atoi(value);
        if (!strncmp(arguments[i], "data=", 5)) flash.data.lines = (unsigned)atoi(value);
    }
    const unsigned most = flash.instructions.lines > flash.data.lines ? flash.instructions.lines : flash.data.lines;
    if (flash.ranges && (!flash.read_bytes || !flash.line_bytes || !flash.data.lines || !flash.instructions.lines)) return 1;
    if (most > MOST_LINES) return 1;
    if (!begin || !end || !out) return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_atexit_cb(id, on_end, NULL);
    return 0;
}
