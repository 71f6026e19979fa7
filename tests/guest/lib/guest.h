/*
 * The common part of every test guest: what the loader told us, printing and TAP on COM1, time,
 * memory, and the ways out. A guest is one file with a main() that calls check() and returns; its
 * opening comment declares how it is run (tests/guest/run).
 */
#ifndef GUEST_GUEST_H
#define GUEST_GUEST_H

#include <stdarg.h>

#include "cpu.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* The guest itself; returning from it prints the plan and powers off. Runs with interrupts off. */
void main(void);

/* ---- what the loader said -------------------------------------------------------------------- */

struct memory_range {
	uint64_t base, size;
	uint32_t type; /* E820: 1 RAM, 2 reserved … */
};

#define MEMORY_RANGES 64

struct boot {
	bool pvh; /* else Linux's 64-bit entry */
	uint64_t rsdp;
	const char *cmdline;
	uint64_t initrd, initrd_size;
	unsigned nranges;
	struct memory_range range[MEMORY_RANGES];
};
extern struct boot boot;

/* Is there this word on the command line? */
bool cmdline_has(const char *word);
/* The number after NAME=, decimal; false if there is none. */
bool cmdline_number(const char *name, uint64_t *value);

/* ---- TAP ------------------------------------------------------------------------------------- */

void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* As they are, at once. */
void print_bytes(const char *s, size_t n);

/* One result; the name is a printf text. Its value is cond. Boot CPU only. */
#define check(cond, ...)                                                                           \
	({                                                                                         \
		bool check_ok_ = (cond);                                                           \
                                                                                                   \
		check_result(check_ok_, __VA_ARGS__);                                              \
		check_ok_;                                                                         \
	})
void check_result(bool ok, const char *name, ...) __attribute__((format(printf, 2, 3)));
/* As check(), and says both values if they differ. */
bool check_equal(uint64_t got, uint64_t want, const char *name, ...)
	__attribute__((format(printf, 3, 4)));
/* A result that this machine cannot have, and why. */
void skip(const char *name, const char *why);
/* How many checks failed so far. */
unsigned check_failures(void);
/* The plan; for guests that end otherwise than by returning. Nothing may be checked afterwards. */
void plan(void);
/* Waits until the last byte is out of the UART, for tests that take it over. */
void print_drain(void);
/* Sets COM1 up for printing, again. */
void print_init(void);

/* ---- time ------------------------------------------------------------------------------------ */

void time_init(void);
/* Microseconds since time_init(), on any CPU. */
uint64_t now_us(void);
uint64_t tsc_khz(void);
void delay_us(uint64_t us);

/* Looks again and again until cond holds, at most ms; its value is whether it came true. */
#define wait_for(cond, ms)                                                                         \
	({                                                                                         \
		uint64_t wait_end_ = now_us() + (ms)*1000ull;                                      \
		bool wait_ok_;                                                                     \
                                                                                                   \
		while (!(wait_ok_ = (cond)) && now_us() < wait_end_)                               \
			cpu_relax();                                                               \
		wait_ok_;                                                                          \
	})

/* ---- memory ---------------------------------------------------------------------------------- */

/* From a bump allocator above 16 MiB: never given back, zeroed; all identity-mapped. */
void *alloc(size_t size, size_t align);
/* Is all of it RAM, by the loader's map? */
bool is_ram(uint64_t base, uint64_t size);
/* Makes [base, base + size) reachable one to one; below 4 GiB everything is. */
void map_physical(uint64_t base, uint64_t size);

void *memset(void *to, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);

/* Small, seeded, good enough to look random (xorshift64). */
uint64_t random64(uint64_t *state);

/* ---- ways out: power.c ----------------------------------------------------------------------- */

void poweroff(void) __attribute__((noreturn)); /* ACPI S5 */
void reset_acpi(void);			       /* these three return if nothing happens */
void reset_cf9(void);
void reset_i8042(void);
void triple_fault(void) __attribute__((noreturn));
void panic_notify(void);
/* "Bail out!", then the panic device, so that nobody takes it for a success. */
void bail(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

#endif
