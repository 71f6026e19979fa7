/*
 * See fake_chip.h.
 */
#include "tests/unit/fake_chip.h"

static void set_line(void *opaque, unsigned gsi, bool level)
{
	struct fake_chip *chip = opaque;

	__atomic_store_n(&chip->level[gsi], level, __ATOMIC_SEQ_CST);
	chip->line_changes++;
}

static int msi(void *opaque, uint64_t address, uint32_t data)
{
	struct fake_chip *chip = opaque;

	chip->address = address;
	chip->data = data;
	__atomic_fetch_add(&chip->messages, 1, __ATOMIC_SEQ_CST);
	return 0;
}

static int route_set(void *opaque, unsigned route, int eventfd, uint64_t address, uint32_t data)
{
	struct fake_chip *chip = opaque;

	chip->route[route].fd = eventfd;
	chip->route[route].address = address;
	chip->route[route].data = data;
	chip->route_sets++;
	return 0;
}

static int route_clear(void *opaque, unsigned route, int eventfd)
{
	struct fake_chip *chip = opaque;

	chip->route_clears++;
	if (chip->route[route].fd != eventfd)
		return -1;
	chip->route[route].fd = 0;
	return 0;
}

static int line_bind(void *opaque, unsigned gsi, int eventfd, int resample)
{
	struct fake_chip *chip = opaque;

	if (chip->line[gsi].trigger)
		return -1;
	chip->line[gsi].trigger = eventfd;
	chip->line[gsi].resample = resample;
	return 0;
}

static int line_unbind(void *opaque, unsigned gsi, int eventfd)
{
	struct fake_chip *chip = opaque;

	if (chip->line[gsi].trigger != eventfd)
		return -1;
	chip->line[gsi].trigger = 0;
	return 0;
}

static void watch_ends(void *opaque, void (*ended)(void *opaque, uint32_t lines), void *watcher)
{
	struct fake_chip *chip = opaque;

	chip->ended = ended;
	chip->ended_opaque = watcher;
}

const struct irq_chip_ops fake_chip_ops = {
	.set_line = set_line,
	.msi = msi,
	.route_set = route_set,
	.route_clear = route_clear,
	.max_routes = FAKE_ROUTES,
	.line_bind = line_bind,
	.line_unbind = line_unbind,
};

const struct irq_chip_ops fake_chip_ops_no_fd = {
	.set_line = set_line,
	.msi = msi,
};

const struct irq_chip_ops fake_chip_ops_ends = {
	.set_line = set_line,
	.msi = msi,
	.watch_ends = watch_ends,
};
