// The memory of a simulated core: boot code, an image, RAM, and the window by which firmware/riscv/core.h reaches the host.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#ifndef BASE
#define BASE 0x80000000u
#endif

constexpr uint32_t BYTES = 128u << 20, WINDOW = 0x87fff000, BOOT = 0x80;

[[noreturn]] inline void fail(const char *what, uint32_t at) {
    fflush(stdout);
    fprintf(stderr, "fault: %s 0x%08x\n", what, at);
    exit(99);
}

class Memory {
    enum { HERE = 0, OPERATION = 4, ARGUMENT = 8, RESULT = 12, MARK = 16 };
    enum { OPEN = 1, CLOSE = 2, WRITE0 = 4, WRITE = 5, READ = 6, EXIT = 0x20 };
    uint8_t *const ram = static_cast<uint8_t *>(calloc(BYTES, 1));
    std::vector<FILE *> files;
    uint32_t argument = 0, result = 0;
    uint64_t began = 0;
    FILE *marks;

    uint8_t *at(uint32_t address, uint32_t bytes) {
        if (address < BASE || bytes > BYTES || address - BASE > BYTES - bytes) fail("no memory at", address);
        return ram + (address - BASE);
    }
    uint32_t word(uint32_t address) {
        uint32_t value;
        memcpy(&value, at(address, 4), 4);
        return value;
    }
    FILE *file(uint32_t handle) {
        if (handle >= files.size() || !files[handle]) fail("no file with handle", handle);
        return files[handle];
    }
    // Arm's semihosting. Names are those of files in the working folder.
    uint32_t host(uint32_t operation) {
        switch (operation) {
        case OPEN: {
            const uint32_t length = word(argument + 8);
            const std::string name(reinterpret_cast<char *>(at(word(argument), length)), length);
            FILE *opened = name.find('/') == std::string::npos ? fopen(name.c_str(), word(argument + 4) >= 4 ? "wb" : "rb") : nullptr;
            if (!opened) return UINT32_MAX;
            files.push_back(opened);
            return static_cast<uint32_t>(files.size() - 1);
        }
        case CLOSE:
            fclose(file(word(argument)));
            files[word(argument)] = nullptr;
            return 0;
        case WRITE0:
            fputs(reinterpret_cast<char *>(at(argument, 1)), stdout);
            return 0;
        case WRITE:
        case READ: {
            const uint32_t bytes = word(argument + 8);
            uint8_t *from = at(word(argument + 4), bytes);
            FILE *with = file(word(argument));
            return bytes - static_cast<uint32_t>(operation == READ ? fread(from, 1, bytes, with) : fwrite(from, 1, bytes, with));
        }
        case EXIT:
            fflush(stdout);
            fclose(marks);
            for (FILE *open : files)
                if (open) fclose(open);
            std::_Exit(static_cast<int>(word(argument + 4)));
        }
        fail("no operation of the host", operation);
    }

  public:
    uint64_t cycle = 0;

    explicit Memory(const char *marks_file) : marks(fopen(marks_file, "w")) {
        if (!ram || !marks) fail("no room for the memory", BYTES);
    }

    // Segments of a 32-bit little-endian ELF file, at their load addresses.
    void load(const char *path) {
        FILE *image = fopen(path, "rb");
        if (!image) fail("the image cannot be read", 0);
        std::vector<uint8_t> raw;
        uint8_t part[4096];
        for (size_t n; (n = fread(part, 1, sizeof part, image));) raw.insert(raw.end(), part, part + n);
        fclose(image);
        const auto field = [&](size_t from, size_t bytes) {
            uint32_t value = 0;
            if (from + bytes > raw.size()) fail("the image is too short at", static_cast<uint32_t>(from));
            memcpy(&value, raw.data() + from, bytes);
            return value;
        };
        const uint32_t table = field(28, 4), size = field(42, 2), count = field(44, 2);
        for (uint32_t i = 0; i < count; i++) {
            const uint32_t header = table + i * size, from = field(header + 4, 4), bytes = field(header + 16, 4);
            if (field(header, 4) != 1 || !bytes) continue;
            field(from, 1), field(from + bytes - 1, 1);
            memcpy(at(field(header + 12, 4), bytes), raw.data() + from, bytes);
        }
    }

    uint32_t fetch(uint32_t address) {
        if (address == BOOT) return 0x800002b7;     // lui t0, 0x80000
        if (address == BOOT + 4) return 0x00028067; // jr t0
        if (address < BOOT) fail("a trap went to", address);
        return address >= BASE && address - BASE <= BYTES - 4 ? word(address & ~3u) : 0;
    }
    uint32_t read(uint32_t address) {
        if (address == WINDOW + HERE) return 1;
        if (address == WINDOW + RESULT) return result;
        return word(address & ~3u);
    }
    void write(uint32_t address, uint32_t value, uint32_t bytes_enabled) {
        if (address == WINDOW + ARGUMENT) {
            argument = value;
        } else if (address == WINDOW + OPERATION) {
            result = host(value);
        } else if (address == WINDOW + MARK) {
            if (value) began = cycle;
            else fprintf(marks, "%llu\n", static_cast<unsigned long long>(cycle - began));
        } else {
            uint8_t *to = at(address & ~3u, 4);
            for (int i = 0; i < 4; i++)
                if (bytes_enabled >> i & 1) to[i] = static_cast<uint8_t>(value >> (8 * i));
        }
    }
};
