/*
 * The decoder over register tables: see registers.h. A linear search: tables of these chips have a
 * dozen rows, and the row that a guest hits most comes first.
 */
#include "devices/registers.h"

int reg_find(const struct reg_table *table, uint64_t offset, unsigned width, unsigned access,
	     unsigned bank)
{
	for (unsigned i = 0; i < table->count; i++) {
		const struct reg *r = &table->reg[i];
		unsigned span = r->span ? r->span : r->width;

		if (offset < r->offset || offset - r->offset >= span)
			continue;
		if ((offset - r->offset) % r->width || width != r->width)
			continue;
		if ((r->access & access) == 0 || (r->bank && !(r->bank & bank)))
			continue;
		return (int)i;
	}
	return -1;
}

const char *reg_name(const struct reg_table *table, uint64_t offset, unsigned access, unsigned bank)
{
	for (unsigned width = 1; width <= 8; width *= 2) {
		int i = reg_find(table, offset, width, access, bank);

		if (i >= 0)
			return table->reg[i].name;
	}
	return "?";
}

void reg_reset(const struct reg_table *table, uint64_t *value)
{
	for (unsigned i = 0; i < table->count; i++)
		value[i] = table->reg[i].reset;
}

uint64_t reg_read_bytewise(void *opaque, uint64_t offset, unsigned size,
			   uint8_t (*read)(void *opaque, uint64_t offset))
{
	uint64_t value = 0;

	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)read(opaque, offset + i) << (8 * i);
	return value;
}

void reg_write_bytewise(void *opaque, uint64_t offset, unsigned size, uint64_t value,
			void (*write)(void *opaque, uint64_t offset, uint8_t value))
{
	for (unsigned i = 0; i < size; i++)
		write(opaque, offset + i, (uint8_t)(value >> (8 * i)));
}
