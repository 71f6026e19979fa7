/*
 * The register tables' decoder.
 */
#include <criterion/criterion.h>

#include "devices/registers.h"

static const struct reg rows[] = {
	{ "STATUS", 0, .width = 4, .access = REG_READ, .reset = 0x80000001 },
	{ "COMMAND", 0, .width = 4, .access = REG_WRITE, .writable = 0xff },
	{ "CONTROL", 4, .width = 2, .access = REG_RW, .bank = 1, .reset = 0x1234,
	  .writable = 0x0ff0, .clear = 0x8000 },
	{ "ADDRESS", 4, .width = 2, .access = REG_RW, .bank = 2 },
	{ "TABLE", 8, .span = 16, .width = 4, .access = REG_RW },
};

static const struct reg_table table = { rows, 5 };

Test(registers, are_found_by_offset_width_access_and_bank)
{
	cr_assert_eq(reg_find(&table, 0, 4, REG_READ, 1), 0);
	cr_assert_eq(reg_find(&table, 0, 4, REG_WRITE, 1), 1);
	cr_assert_eq(reg_find(&table, 0, 2, REG_READ, 1), -1);
	cr_assert_eq(reg_find(&table, 2, 4, REG_READ, 1), -1);
	cr_assert_eq(reg_find(&table, 4, 2, REG_RW, 1), 2);
	cr_assert_eq(reg_find(&table, 4, 2, REG_RW, 2), 3);
	cr_assert_eq(reg_find(&table, 4, 2, REG_RW, 4), -1);
	cr_assert_eq(reg_find(&table, 8, 4, REG_RW, 1), 4);
	cr_assert_eq(reg_find(&table, 20, 4, REG_RW, 1), 4);
	cr_assert_eq(reg_find(&table, 22, 4, REG_RW, 1), -1);
	cr_assert_eq(reg_find(&table, 24, 4, REG_RW, 1), -1);
	cr_assert_eq(reg_find(&table, ~0ull, 4, REG_RW, 1), -1);
}

Test(registers, have_names_for_traces)
{
	cr_assert_str_eq(reg_name(&table, 0, REG_READ, 1), "STATUS");
	cr_assert_str_eq(reg_name(&table, 0, REG_WRITE, 1), "COMMAND");
	cr_assert_str_eq(reg_name(&table, 4, REG_READ, 2), "ADDRESS");
	cr_assert_str_eq(reg_name(&table, 100, REG_READ, 1), "?");
}

Test(registers, keep_what_a_write_may_not_change)
{
	uint64_t value[5];

	reg_reset(&table, value);
	cr_assert_eq(value[0], 0x80000001);
	cr_assert_eq(value[2], 0x1234);
	cr_assert_eq(reg_merge(&rows[2], 0x1234, 0xffff), 0x1ff4);
	cr_assert_eq(reg_merge(&rows[2], 0x9234, 0x0000), 0x9004);
	cr_assert_eq(reg_merge(&rows[2], 0x9234, 0x8000), 0x1004);
}

static uint8_t nth_byte(void *opaque, uint64_t offset)
{
	(void)opaque;
	return (uint8_t)(0x10 + offset);
}

static void note_byte(void *opaque, uint64_t offset, uint8_t value)
{
	((uint8_t *)opaque)[offset] = value;
}

Test(registers, wide_accesses_become_bytes)
{
	uint8_t bytes[8] = { 0 };

	cr_assert_eq(reg_read_bytewise(NULL, 1, 4, nth_byte), 0x14131211);
	cr_assert_eq(reg_read_bytewise(NULL, 0, 1, nth_byte), 0x10);
	reg_write_bytewise(bytes, 2, 4, 0xddccbbaa99, note_byte);
	cr_assert_eq(bytes[1], 0);
	cr_assert_eq(bytes[2], 0x99);
	cr_assert_eq(bytes[5], 0xcc);
	cr_assert_eq(bytes[6], 0);
}
