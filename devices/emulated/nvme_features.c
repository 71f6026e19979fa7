/*
 * Get and Set Features. NVM Express Base 1.4 sections 5.9 and 5.21. None can be saved, so the saved
 * value is the default one. Coalescing, arbitration and error recovery are kept and told; they are
 * wishes, and the controller coalesces in its own way (an interrupt for each batch).
 */
#include <string.h>

#include "devices/emulated/nvme.h"

#define CHANGEABLE (1u << 2) /* of the capabilities (SEL = 3) */
#define SAVE	   (1u << 31)

enum { SELECT_CURRENT, SELECT_DEFAULT, SELECT_SAVED, SELECT_CAPABILITIES };

#define CRITICAL_TEMPERATURE (1u << 1) /* of Asynchronous Event Configuration */

static const struct feature {
	bool there;
	uint32_t initial, writable;
} features[NVME_FEATURES] = {
	[NVME_FEAT_ARBITRATION] = { .there = true, .initial = 7, .writable = 0xffffff07 },
	[NVME_FEAT_POWER] = { .there = true, .writable = 0xff },
	[NVME_FEAT_TEMPERATURE] = { .there = true, .writable = 0xffff },
	[NVME_FEAT_ERROR_RECOVERY] = { .there = true, .writable = 0xffff },
	[NVME_FEAT_WRITE_CACHE] = { .there = true, .initial = 1, .writable = 1 },
	[NVME_FEAT_QUEUES] = { .there = true },
	[NVME_FEAT_COALESCING] = { .there = true, .writable = 0xffff },
	[NVME_FEAT_VECTOR] = { .there = true, .writable = 0x1ffff },
	[NVME_FEAT_ATOMICITY] = { .there = true, .writable = 1 },
	[NVME_FEAT_ASYNC_EVENT] = { .there = true, .writable = 0xff },
};

void nvme_features_reset(struct nvme *n)
{
	for (unsigned i = 0; i < NVME_FEATURES; i++)
		n->feature[i] = features[i].initial;
	n->threshold[0] = 343; /* WCTEMP */
	n->threshold[1] = 0;
	memset(n->vector_config, 0, sizeof(n->vector_config));
	__atomic_store_n(&n->write_through, false, __ATOMIC_RELAXED);
}

bool nvme_too_hot(const struct nvme *n)
{
	return NVME_KELVIN >= n->threshold[0] || NVME_KELVIN <= n->threshold[1];
}

static uint32_t queues_allocated(const struct nvme *n)
{
	return (n->nqueues - 1) << 16 | (n->nqueues - 1);
}

/* THSEL and TMPSEL; 0 (composite) and, to set, 15 (all) are the sensors there are. */
static bool threshold_of(const struct nvme_command *c, bool set, unsigned *which)
{
	unsigned sensor = c->cdw11 >> 16 & 0xf;

	*which = c->cdw11 >> 20 & 3;
	return *which < 2 && (sensor == 0 || (set && sensor == 15));
}

static uint16_t set_threshold(struct nvme *n, const struct nvme_command *c)
{
	unsigned which;

	if (!threshold_of(c, true, &which))
		return NVME_SC_INVALID_FIELD | NVME_SC_DNR;
	n->threshold[which] = c->cdw11 & 0xffff;
	if (nvme_too_hot(n) && (n->feature[NVME_FEAT_ASYNC_EVENT] & CRITICAL_TEMPERATURE))
		nvme_event_raise(n, NVME_EVENT_SMART, NVME_EVENT_TEMPERATURE);
	return NVME_SC_SUCCESS;
}

static uint16_t set_queues(struct nvme *n, const struct nvme_command *c, uint32_t *result)
{
	for (unsigned i = 1; i <= n->nqueues; i++)
		if (n->sq[i].live || n->cq[i].live)
			return NVME_SC_SEQUENCE | NVME_SC_DNR;
	if ((c->cdw11 & 0xffff) == 0xffff || c->cdw11 >> 16 == 0xffff)
		return NVME_SC_INVALID_FIELD | NVME_SC_DNR;
	*result = queues_allocated(n);
	return NVME_SC_SUCCESS;
}

static uint16_t set_vector(struct nvme *n, const struct nvme_command *c)
{
	uint32_t vector = c->cdw11 & 0xffff;

	if (vector > n->nqueues)
		return NVME_SC_INVALID_FIELD | NVME_SC_DNR;
	n->vector_config[vector] = c->cdw11 >> 16 & 1;
	return NVME_SC_SUCCESS;
}

uint16_t nvme_set_features(struct nvme *n, const struct nvme_command *c, uint32_t *result)
{
	uint32_t id = c->cdw10 & 0xff, value;

	if (id >= NVME_FEATURES || !features[id].there)
		return NVME_SC_INVALID_FIELD | NVME_SC_DNR;
	if (c->cdw10 & SAVE)
		return NVME_SC_NOT_SAVEABLE | NVME_SC_DNR;
	value = c->cdw11 & features[id].writable;
	switch (id) {
	case NVME_FEAT_POWER:
		if (value & 0x1f) /* there is one power state */
			return NVME_SC_INVALID_FIELD | NVME_SC_DNR;
		break;
	case NVME_FEAT_TEMPERATURE:
		return set_threshold(n, c);
	case NVME_FEAT_QUEUES:
		return set_queues(n, c, result);
	case NVME_FEAT_VECTOR:
		return set_vector(n, c);
	case NVME_FEAT_WRITE_CACHE:
		__atomic_store_n(&n->write_through, !value, __ATOMIC_RELAXED);
		break;
	default:
		break;
	}
	n->feature[id] = value;
	return NVME_SC_SUCCESS;
}

static uint16_t get_current(const struct nvme *n, const struct nvme_command *c, uint32_t id,
			    uint32_t *result)
{
	uint32_t vector = c->cdw11 & 0xffff;
	unsigned which;

	switch (id) {
	case NVME_FEAT_TEMPERATURE:
		if (!threshold_of(c, false, &which))
			return NVME_SC_INVALID_FIELD | NVME_SC_DNR;
		*result = n->threshold[which];
		break;
	case NVME_FEAT_VECTOR:
		if (vector > n->nqueues)
			return NVME_SC_INVALID_FIELD | NVME_SC_DNR;
		*result = vector | (uint32_t)n->vector_config[vector] << 16;
		break;
	case NVME_FEAT_QUEUES:
		*result = queues_allocated(n);
		break;
	default:
		*result = n->feature[id];
	}
	return NVME_SC_SUCCESS;
}

static uint16_t get_default(const struct nvme *n, const struct nvme_command *c, uint32_t id,
			    uint32_t *result)
{
	unsigned which;

	switch (id) {
	case NVME_FEAT_TEMPERATURE:
		if (!threshold_of(c, false, &which))
			return NVME_SC_INVALID_FIELD | NVME_SC_DNR;
		*result = which ? 0 : 343;
		break;
	case NVME_FEAT_VECTOR:
		*result = c->cdw11 & 0xffff;
		break;
	case NVME_FEAT_QUEUES:
		*result = queues_allocated(n);
		break;
	default:
		*result = features[id].initial;
	}
	return NVME_SC_SUCCESS;
}

uint16_t nvme_get_features(struct nvme *n, const struct nvme_command *c, uint32_t *result)
{
	uint32_t id = c->cdw10 & 0xff;

	if (id >= NVME_FEATURES || !features[id].there)
		return NVME_SC_INVALID_FIELD | NVME_SC_DNR;
	switch (c->cdw10 >> 8 & 7) {
	case SELECT_CURRENT:
		return get_current(n, c, id, result);
	case SELECT_DEFAULT:
	case SELECT_SAVED:
		return get_default(n, c, id, result);
	case SELECT_CAPABILITIES:
		*result = id == NVME_FEAT_QUEUES ? 0 : CHANGEABLE;
		return NVME_SC_SUCCESS;
	default:
		return NVME_SC_INVALID_FIELD | NVME_SC_DNR;
	}
}
