/*
 * Memory-mapped I/O: widths, places where nothing answers, and the instructions that reach a
 * register otherwise than by mov.
 *
 * mvm: --rng=virtio
 */
#include "guest.h"
#include "pci.h"

#define NOBODY 0xdf000000ull /* in the PCI window, far from any BAR */
#define BRIDGE PCI_BDF(0, 0, 0)

#define RNG_VENDOR 0x1af4
#define RNG_DEVICE 0x1044

static void unclaimed(void)
{
	check_equal(read8(NOBODY), 0xff, "unclaimed, 8 bits, reads all ones");
	check_equal(read16(NOBODY), 0xffff, "unclaimed, 16 bits");
	check_equal(read32(NOBODY), 0xffffffff, "unclaimed, 32 bits");
	check_equal(read64(NOBODY), ~0ull, "unclaimed, 64 bits");
	check_equal(read32(NOBODY + 1), 0xffffffff, "unclaimed, not aligned");
	check_equal(read32(NOBODY + 0xffe), 0xffffffff, "unclaimed, over a page boundary");
	check_equal(read64(NOBODY + 0xffd), ~0ull, "unclaimed, 64 bits over a page boundary");
	write8(NOBODY, 0);
	write16(NOBODY, 0);
	write32(NOBODY, 0);
	write64(NOBODY, 0);
	write64(NOBODY + 0xffd, 0);
	check_equal(read64(NOBODY), ~0ull, "writing there changes nothing");
	check_equal(read32(0xffffff00), 0xffffffff, "just below 4 GiB");
}

static void beyond_ram(void)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < boot.nranges; i++)
		if (boot.range[i].type == 1 && boot.range[i].base < 1ull << 32)
			end = boot.range[i].base + boot.range[i].size;
	check_equal(read32(end), 0xffffffff, "just after RAM");
	write32(end - 4, 0x600df00d);
	/* Half of it is RAM. */
	check_equal(read64(end - 4), 0xffffffff600df00dull, "over the end of RAM");
	map_physical(1ull << 33, 4096);
	check_equal(read32(1ull << 33), 0xffffffff, "above 4 GiB, where no RAM is");
}

static void widths(void)
{
	uint32_t id = pci_read32(BRIDGE, PCI_VENDOR);

	check(id != 0 && id != 0xffffffff, "the bridge has an id: 0x%08x", id);
	check_equal(pci_read16(BRIDGE, 0), id & 0xffff, "16 bits at 0");
	check_equal(pci_read16(BRIDGE, 2), id >> 16, "16 bits at 2");
	for (unsigned i = 0; i < 4; i++)
		check_equal(pci_read8(BRIDGE, i), id >> 8 * i & 0xff, "8 bits at %u", i);
}

/* Interrupt Line is a plain byte that a function with an interrupt pin keeps for software. */
static void instructions(uint64_t line)
{
	uint32_t copy[5] = { 0 }, value;
	uint8_t old = 0x11, flag;
	uint64_t from = pci_ecam(BRIDGE, 0);
	void *to = copy;
	size_t n = 4;

	write8(line, 0x5a);
	check_equal(read8(line), 0x5a, "a register that keeps a byte");
	asm volatile("orb $0x81, (%0)" : : "r"(line) : "memory", "cc");
	check_equal(read8(line), 0xdb, "or to a register");
	asm volatile("incb (%0)" : : "r"(line) : "memory", "cc");
	check_equal(read8(line), 0xdc, "inc of a register");
	asm volatile("xchgb %0, (%1)" : "+q"(old) : "r"(line) : "memory");
	check(old == 0xdc && read8(line) == 0x11, "xchg with a register");
	asm volatile("movzbl (%1), %0" : "=r"(value) : "r"(line) : "memory");
	check_equal(value, 0x11, "movzx from a register");
	write8(line, 0x80);
	asm volatile("movsbl (%1), %0" : "=r"(value) : "r"(line) : "memory");
	check_equal(value, 0xffffff80, "movsx from a register");
	asm volatile("cmpb $0x80, (%1)\n\tsete %0" : "=q"(flag) : "r"(line) : "memory", "cc");
	check(flag, "cmp with a register");
	asm volatile("testb $0x01, (%1)\n\tsetz %0" : "=q"(flag) : "r"(line) : "memory", "cc");
	check(flag, "test of a register");
	asm volatile("movb $0x42, (%0)" : : "r"(line) : "memory");
	check_equal(read8(line), 0x42, "mov of an immediate");
	asm volatile("rep movsl" : "+S"(from), "+D"(to), "+c"(n) : : "memory");
	check(copy[0] == pci_read32(BRIDGE, 0) && copy[3] == pci_read32(BRIDGE, 12) && !copy[4],
	      "rep movs from registers");
	n = 1;
	to = (void *)line;
	asm volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(0x24) : "memory");
	check_equal(read8(line), 0x24, "stos to a register");
	write8(line, 0);
}

void main(void)
{
	struct pci_function rng = { 0 };

	unclaimed();
	beyond_ram();
	widths();
	if (check(pci_find(RNG_VENDOR, RNG_DEVICE, 0, &rng), "a function with an interrupt pin"))
		instructions(pci_ecam(rng.bdf, PCI_INTERRUPT_LINE));
}
