/*
 * Memory for a test guest: page tables beyond the first 4 GiB, a bump allocator, and the four
 * functions that the compiler may call. Few instructions rather than clever ones.
 */
#include "guest.h"

#define HEAP_BASE 0x1000000ull
#define HEAP_END  0x3000000ull

#define PAGE	     4096u
#define PTE_PRESENT  1ull
#define PTE_WRITABLE 2ull
#define PTE_LARGE    0x80ull
#define PTE_ADDRESS  0x000ffffffffff000ull
#define LARGE_SHIFT  21
#define LARGE_PAGE   (1ull << LARGE_SHIFT)

extern uint64_t pml4[512];

static uint64_t heap = HEAP_BASE;

void *alloc(size_t size, size_t align)
{
	uint64_t at = (heap + align - 1) & ~(uint64_t)(align - 1);

	if (size > HEAP_END - at)
		bail("no memory for %lu bytes", (uint64_t)size);
	heap = at + size;
	/* Not fresh after a reset in place. */
	return memset((void *)at, 0, size);
}

bool is_ram(uint64_t base, uint64_t size)
{
	for (unsigned i = 0; i < boot.nranges; i++) {
		const struct memory_range *r = &boot.range[i];

		if (r->type == 1 && base >= r->base && size <= r->size &&
		    base - r->base <= r->size - size)
			return true;
	}
	return false;
}

static uint64_t *next_table(uint64_t *entry)
{
	if (!(*entry & PTE_PRESENT))
		*entry = (uint64_t)alloc(PAGE, PAGE) | PTE_PRESENT | PTE_WRITABLE;
	return (uint64_t *)(*entry & PTE_ADDRESS);
}

void map_physical(uint64_t base, uint64_t size)
{
	uint64_t last = base + size - 1;

	for (uint64_t at = base & ~(LARGE_PAGE - 1); at <= last; at += LARGE_PAGE) {
		uint64_t *pdpt = next_table(&pml4[at >> 39 & 511]);
		uint64_t *pd = next_table(&pdpt[at >> 30 & 511]);

		pd[at >> LARGE_SHIFT & 511] = at | PTE_PRESENT | PTE_WRITABLE | PTE_LARGE;
	}
}

void *memset(void *to, int c, size_t n)
{
	uint64_t pattern = (uint8_t)c * 0x0101010101010101ull;
	size_t words = n / 8, bytes = n % 8;
	void *at = to;

	asm volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(pattern) : "memory");
	asm volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(pattern) : "memory");
	return to;
}

void *memcpy(void *to, const void *from, size_t n)
{
	size_t words = n / 8, bytes = n % 8;
	void *at = to;

	asm volatile("rep movsq" : "+D"(at), "+S"(from), "+c"(words) : : "memory");
	asm volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes) : : "memory");
	return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;

	/* Most comparisons find no difference: as fast as possible over what is equal. */
	for (; n >= 8 && *(const uint64_t *)x == *(const uint64_t *)y; n -= 8) {
		x += 8;
		y += 8;
	}
	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

uint64_t random64(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *state = x;
}
