/*
 * What a test guest says to its CPU: ports, memory-mapped registers, MSRs, CPUID, flags, barriers.
 * Every access is exactly one instruction of the width named, so that a test knows what exit it
 * causes.
 */
#ifndef GUEST_CPU_H
#define GUEST_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline void out8(uint16_t port, uint8_t value)
{
	asm volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out16(uint16_t port, uint16_t value)
{
	asm volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out32(uint16_t port, uint32_t value)
{
	asm volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t value;

	asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint16_t in16(uint16_t port)
{
	uint16_t value;

	asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint32_t in32(uint16_t port)
{
	uint32_t value;

	asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

/* String I/O: count accesses to the same port by one instruction. */
#define CPU_STRING_IO(bits, suffix)                                                                \
	static inline void outs##bits(uint16_t port, const void *from, size_t count)               \
	{                                                                                          \
		asm volatile("rep outs" suffix : "+S"(from), "+c"(count) : "d"(port) : "memory");  \
	}                                                                                          \
	static inline void ins##bits(uint16_t port, void *to, size_t count)                        \
	{                                                                                          \
		asm volatile("rep ins" suffix : "+D"(to), "+c"(count) : "d"(port) : "memory");     \
	}
CPU_STRING_IO(8, "b")
CPU_STRING_IO(16, "w")
CPU_STRING_IO(32, "l")

#define CPU_MMIO(bits, suffix, reg)                                                                \
	static inline uint##bits##_t read##bits(uint64_t address)                                  \
	{                                                                                          \
		uint##bits##_t value;                                                              \
                                                                                                   \
		asm volatile("mov" suffix " (%1), %0" : "=" reg(value) : "r"(address) : "memory"); \
		return value;                                                                      \
	}                                                                                          \
	static inline void write##bits(uint64_t address, uint##bits##_t value)                     \
	{                                                                                          \
		asm volatile("mov" suffix " %0, (%1)" : : reg(value), "r"(address) : "memory");    \
	}
CPU_MMIO(8, "b", "q")
CPU_MMIO(16, "w", "r")
CPU_MMIO(32, "l", "r")
CPU_MMIO(64, "q", "r")

static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t lo, hi;

	asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return (uint64_t)hi << 32 | lo;
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
	asm volatile("wrmsr"
		     :
		     : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
		     : "memory");
}

static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;

	asm volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

struct cpuid {
	uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid(uint32_t leaf, uint32_t index)
{
	struct cpuid r;

	asm volatile("cpuid"
		     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
		     : "a"(leaf), "c"(index));
	return r;
}

/* A full barrier; KVM's emulator has no mfence. */
static inline void barrier_full(void)
{
	asm volatile("lock addl $0, (%%rsp)" : : : "memory", "cc");
}

/* x86 keeps loads in order and stores in order; only the compiler must be told. */
static inline void barrier_compiler(void)
{
	asm volatile("" : : : "memory");
}

static inline void cpu_relax(void)
{
	asm volatile("pause" : : : "memory");
}

static inline void irq_enable(void)
{
	asm volatile("sti" : : : "memory");
}

static inline void irq_disable(void)
{
	asm volatile("cli" : : : "memory");
}

static inline void hlt(void)
{
	asm volatile("hlt" : : : "memory");
}

static inline uint32_t atomic_add(volatile uint32_t *p, uint32_t n)
{
	asm volatile("lock xaddl %0, %1" : "+r"(n), "+m"(*p) : : "memory", "cc");
	return n; /* what it was */
}

#endif
