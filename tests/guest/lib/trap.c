/*
 * The IDT and what comes through it: see trap.h.
 */
#include "apic.h"
#include "guest.h"
#include "trap.h"

#define CODE64	  0x10
#define GATE_INTR 0x8e00

struct gate {
	uint16_t offset_low, selector, type, offset_middle;
	uint32_t offset_high, reserved;
};

struct fixup {
	uint64_t fault, resume;
};

extern const char trap_entries[];
extern const struct fixup fixups_start[]; /* the last is all zero */

static struct gate idt[256];
volatile uint32_t irq_count[256];
static void (*handlers[256])(void);

void trap_init(void)
{
	uint64_t entry = (uint64_t)trap_entries;

	for (unsigned i = 0; i < 256; i++, entry += 16) {
		idt[i].offset_low = (uint16_t)entry;
		idt[i].selector = CODE64;
		idt[i].type = GATE_INTR;
		idt[i].offset_middle = (uint16_t)(entry >> 16);
	}
}

void trap_load(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) pointer = { sizeof(idt) - 1, (uint64_t)idt };

	asm volatile("lidt %0" : : "m"(pointer));
}

void irq_handler(unsigned vector, void (*handler)(void))
{
	handlers[vector & 0xff] = handler;
}

static bool fix_up(struct trap_frame *f)
{
	for (const struct fixup *x = fixups_start; x->fault; x++)
		if (x->fault == f->rip) {
			f->rip = x->resume;
			return true;
		}
	return false;
}

static void exception(const struct trap_frame *f)
{
	uint64_t cr2;

	asm volatile("movq %%cr2, %0" : "=r"(cr2));
	print("# exception %lu error 0x%lx rip 0x%lx cr2 0x%lx\n", f->vector, f->error, f->rip,
	      cr2);
	print("# rax %lx rcx %lx rdx %lx rbx %lx rsi %lx rdi %lx rsp %lx\n", f->rax, f->rcx, f->rdx,
	      f->rbx, f->rsi, f->rdi, f->rsp);
	bail("exception %lu", f->vector);
}

void trap(struct trap_frame *f);
void trap(struct trap_frame *f)
{
	unsigned vector = (unsigned)f->vector & 0xff;

	if (vector < VECTOR_FIRST) {
		atomic_add(&irq_count[vector], 1);
		if (!fix_up(f))
			exception(f);
		return;
	}
	if (handlers[vector])
		handlers[vector]();
	atomic_add(&irq_count[vector], 1);
	if (vector != VECTOR_SPURIOUS)
		lapic_eoi();
}

bool irq_wait(unsigned vector, uint32_t more, unsigned ms)
{
	uint32_t target = irq_count[vector] + more;
	bool ok;

	irq_enable();
	ok = wait_for((int32_t)(irq_count[vector] - target) >= 0, ms);
	irq_disable();
	return ok;
}

uint32_t irq_during(unsigned vector, unsigned ms)
{
	uint32_t before = irq_count[vector];

	irq_enable();
	delay_us(ms * 1000ull);
	irq_disable();
	return irq_count[vector] - before;
}

bool rdmsr_safe(uint32_t msr, uint64_t *value)
{
	uint32_t lo = 0, hi = 0, ok = 0;

	asm volatile("1: rdmsr\n\t"
		     "movl $1, %2\n"
		     "2:\n\t"
		     ".pushsection .fixups, \"a\"\n\t"
		     ".quad 1b, 2b\n\t"
		     ".popsection"
		     : "+a"(lo), "+d"(hi), "+r"(ok)
		     : "c"(msr));
	*value = (uint64_t)hi << 32 | lo;
	return ok;
}

bool wrmsr_safe(uint32_t msr, uint64_t value)
{
	uint32_t ok = 0;

	asm volatile("1: wrmsr\n\t"
		     "movl $1, %0\n"
		     "2:\n\t"
		     ".pushsection .fixups, \"a\"\n\t"
		     ".quad 1b, 2b\n\t"
		     ".popsection"
		     : "+r"(ok)
		     : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
		     : "memory");
	return ok;
}
