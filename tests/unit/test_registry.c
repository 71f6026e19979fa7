/*
 * The registry of this build and what reads it: every row must be one that parser and help can work
 * with. The same checks go over the option tests' own rows.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "test_options.h"
#include "vmm/options_internal.h"

static void check_key(const struct device_row *row, const struct device_key *key)
{
	struct device_value value = { 0 };
	struct error e = { .msg = "" };

	cr_expect(key->help && *key->help, "%s: %s has no help", row->hw, key->name);
	cr_expect_eq(strcspn(key->name, "=,: |\""), strlen(key->name), "%s: key \"%s\"", row->hw,
		     key->name);
	cr_expect_str_neq(key->name, "hw", "%s: hw is the parser's own", row->hw);
	cr_expect_eq(key->type == KEY_ENUM, key->choices != NULL,
		     "%s: %s: choices are for KEY_ENUM", row->hw, key->name);
	cr_expect(key->max == 0 || key->min <= key->max, "%s: %s: range", row->hw, key->name);
	if (key->fallback)
		cr_expect_eq(option_parse_value(key, key->fallback, &value, &e), 0,
			     "%s: default of %s: %s", row->hw, key->name, e.msg);
	free(value.text);
	for (const struct device_key *other = row->keys; other != key; other++)
		cr_expect_str_neq(other->name, key->name, "%s: key %s twice", row->hw, key->name);
}

static void check_row(device_rows rows, const struct device_row *row)
{
	unsigned keys = 0, preferred = 0;
	struct device_config config;
	struct error e = { .msg = "" };

	cr_expect_lt(row->class, CLASS_COUNT);
	cr_expect_lt(row->model, MODEL_COUNT);
	cr_expect(row->hw && *row->hw);
	cr_expect(row->summary && *row->summary, "%s has no summary", row->hw);
	cr_expect(row->target || !row->target_required, "%s requires what it does not take",
		  row->hw);
	cr_expect(device_planned(row->class, row->model), "%s: not one of the design's pairs",
		  row->hw);
	cr_assert(row->keys, "%s: keys may be empty but not NULL", row->hw);
	for (const struct device_key *key = row->keys; key->name; key++, keys++)
		check_key(row, key);
	cr_expect_leq(keys, DEVICE_MAX_KEYS, "%s has too many keys", row->hw);
	for (device_rows r = rows; *r; r++) {
		if ((*r)->class != row->class || (*r)->model != row->model)
			continue;
		preferred += (*r)->preferred;
		cr_expect(*r == row || strcmp((*r)->hw, row->hw) != 0, "%s twice", row->hw);
	}
	if (row->class == CLASS_PLATFORM)
		cr_expect_null(row->target, "%s: no flag could give a target", row->hw);
	else
		cr_expect_eq(preferred, 1, "%s %s: %u preferred hw", device_class_name(row->class),
			     device_model_name(row->model), preferred);
	cr_expect_eq(config_device_defaults(&config, row, &e), 0, "%s: %s", row->hw, e.msg);
	device_config_free(&config);
}

Test(registry, every_row_is_consistent)
{
	for (device_rows r = device_registry; *r; r++) {
		check_row(device_registry, *r);
		cr_expect((*r)->create, "%s cannot be made", (*r)->hw);
	}
	for (device_rows r = test_rows; *r; r++)
		check_row(test_rows, *r);
}

/* By their flags, as a user would, with nothing but what is required. */
Test(registry, every_row_has_a_flag)
{
	for (device_rows r = device_registry; *r; r++) {
		const struct device_row *row = *r;
		char word[128];
		char *argv[] = { (char *)"mvm", word };
		struct error e = { .msg = "" };
		struct config config;

		if (row->class == CLASS_PLATFORM)
			continue;
		snprintf(word, sizeof(word), "--%s=%s%s,hw=%s", device_class_name(row->class),
			 device_model_name(row->model), row->target_required ? ":x" : "", row->hw);
		config_init(&config);
		cr_expect_eq(config_parse(&config, 2, argv, &e), 0, "%s", e.msg);
		cr_expect_eq(config.device[0].row, row);
		config_free(&config);
	}
}

Test(registry, names_and_summaries_are_all_there)
{
	for (unsigned c = 0; c < CLASS_COUNT; c++)
		cr_assert(*device_class_name(c) && *device_class_summary(c));
	for (unsigned m = 0; m < MODEL_COUNT; m++)
		cr_assert(*device_model_name(m));
}

Test(registry, finds_rows)
{
	cr_assert_str_eq(device_find_in(test_rows, CLASS_NET, MODEL_EMULATED, NULL)->hw, "e1000");
	cr_assert_str_eq(device_find_in(test_rows, CLASS_NET, MODEL_EMULATED, "ne2k")->hw, "ne2k");
	cr_assert_null(device_find_in(test_rows, CLASS_NET, MODEL_EMULATED, "virtio-net"));
	cr_assert_null(device_find_in(test_rows, CLASS_NET, MODEL_VFIO, NULL));
	cr_assert_eq(device_count_hw(test_rows, CLASS_NET, MODEL_EMULATED), 2);
	cr_assert_eq(device_count_hw(test_rows, CLASS_NET, MODEL_VHOST), 0);
}

Test(registry, capabilities_as_words)
{
	char buf[64];

	cr_assert_str_eq(device_capabilities(0, buf, sizeof(buf)), "-");
	cr_assert_str_eq(device_capabilities(DEVICE_CAN_SAVE, buf, sizeof(buf)), "save");
	cr_assert_str_eq(device_capabilities(DEVICE_CAN_SAVE | DEVICE_CAN_PAUSE, buf, sizeof(buf)),
			 "pause, save");
	cr_assert_str_eq(device_capabilities(DEVICE_CAN_SAVE | DEVICE_CAN_PAUSE, buf, 4), "pau");
}

Test(registry, a_key_that_is_not_declared_is_a_bug, .signal = SIGABRT)
{
	struct device_config config;
	struct error e;

	config_device_defaults(&config, device_find_in(test_rows, CLASS_BLK, MODEL_VIRTIO, NULL),
			       &e);
	device_config_uint(&config, "nonsense");
}

Test(registry, a_key_read_as_another_type_is_a_bug, .signal = SIGABRT)
{
	struct device_config config;
	struct error e;

	config_device_defaults(&config, device_find_in(test_rows, CLASS_BLK, MODEL_VIRTIO, NULL),
			       &e);
	device_config_string(&config, "queues");
}

Test(registry, device_init_names_devices)
{
	static const struct device_row rtc = { .class = CLASS_PLATFORM, .hw = "rtc" };
	struct device_config config = {
		.row = device_find_in(test_rows, CLASS_RNG, MODEL_VIRTIO, NULL), .index = 3
	};
	struct device dev;

	device_init(&dev, NULL, NULL, &config);
	cr_assert_str_eq(dev.name, "rng3");
	config.row = &rtc;
	device_init(&dev, NULL, NULL, &config);
	cr_assert_str_eq(dev.name, "rtc");
}
