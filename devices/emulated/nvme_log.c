/*
 * Get Log Page: errors, SMART / health, firmware slots, changed namespaces, commands supported and
 * their effects. NVM Express Base 1.4 section 5.14. A page is put together in a buffer, of which
 * the driver gets the part that it asks for.
 */
#include <string.h>

#include "devices/emulated/nvme.h"

#define PAGE_MAX 4096u

_Static_assert(sizeof(struct nvme_error_entry) * NVME_ERRORS <= PAGE_MAX, "the error log fits");

/* The newest first; entries that were never used are zero. */
static size_t error_page(struct nvme *n, void *page)
{
	struct nvme_error_entry *entry = page;

	pthread_mutex_lock(&n->errors_lock);
	for (uint64_t i = 0; i < NVME_ERRORS && i < n->nerrors; i++)
		entry[i] = n->error[(n->nerrors - 1 - i) % NVME_ERRORS];
	pthread_mutex_unlock(&n->errors_lock);
	return sizeof(*entry) * NVME_ERRORS;
}

static uint64_t data_units(uint64_t bytes)
{
	return (bytes + 511999) / 512000;
}

static size_t smart_page(struct nvme *n, void *page)
{
	struct nvme_counts counts = nvme_counts(n);
	struct nvme_smart_log log = {
		.critical_warning =
			(uint8_t)((nvme_too_hot(n) ? NVME_SMART_TEMPERATURE : 0) |
				  (block_info(n->block)->read_only ? NVME_SMART_READ_ONLY : 0)),
		.temperature = { NVME_KELVIN & 0xff, NVME_KELVIN >> 8 },
		.spare = 100,
		.spare_threshold = 10,
		.data_units_read = { data_units(counts.bytes_read) },
		.data_units_written = { data_units(counts.bytes_written) },
		.host_reads = { counts.reads },
		.host_writes = { counts.writes },
		.power_cycles = { 1 },
		.media_errors = { counts.media_errors },
	};

	pthread_mutex_lock(&n->errors_lock);
	log.error_entries[0] = n->nerrors;
	pthread_mutex_unlock(&n->errors_lock);
	memcpy(page, &log, sizeof(log));
	return sizeof(log);
}

static size_t firmware_page(void *page)
{
	struct nvme_firmware_log log = { .afi = 1 };

	memset(log.frs[0], ' ', sizeof(log.frs[0]));
	memcpy(log.frs[0], MVM_VERSION, strnlen(MVM_VERSION, sizeof(log.frs[0])));
	memcpy(page, &log, sizeof(log));
	return sizeof(log);
}

static size_t effects_page(const struct nvme *n, void *page)
{
	static const uint8_t admin[] = {
		NVME_ADMIN_DELETE_SQ,	NVME_ADMIN_CREATE_SQ,	 NVME_ADMIN_GET_LOG_PAGE,
		NVME_ADMIN_DELETE_CQ,	NVME_ADMIN_CREATE_CQ,	 NVME_ADMIN_IDENTIFY,
		NVME_ADMIN_ABORT,	NVME_ADMIN_SET_FEATURES, NVME_ADMIN_GET_FEATURES,
		NVME_ADMIN_ASYNC_EVENT,
	};
	struct nvme_effects_log *log = page;

	for (size_t i = 0; i < sizeof(admin); i++)
		log->admin[admin[i]] = NVME_EFFECT_SUPPORTED;
	if (n->offers_shadow)
		log->admin[NVME_ADMIN_DBBUF_CONFIG] = NVME_EFFECT_SUPPORTED;
	log->admin[NVME_ADMIN_FORMAT_NVM] =
		NVME_EFFECT_SUPPORTED | NVME_EFFECT_CONTENT | NVME_EFFECT_ALONE;
	log->io[NVME_FLUSH] = log->io[NVME_READ] = NVME_EFFECT_SUPPORTED;
	log->io[NVME_WRITE] = log->io[NVME_WRITE_ZEROES] = log->io[NVME_DSM] =
		NVME_EFFECT_SUPPORTED | NVME_EFFECT_CONTENT;
	return sizeof(*log);
}

/* How long the page is; 0: there is none. page is zero. */
static size_t make_page(struct nvme *n, unsigned id, void *page)
{
	switch (id) {
	case NVME_LOG_ERROR:
		return error_page(n, page);
	case NVME_LOG_SMART:
		return smart_page(n, page);
	case NVME_LOG_FIRMWARE:
		return firmware_page(page);
	case NVME_LOG_CHANGED_NS:
		return PAGE_MAX; /* there is one namespace, and it does not change */
	case NVME_LOG_EFFECTS:
		return effects_page(n, page);
	default:
		return 0;
	}
}

uint16_t nvme_get_log(struct nvme *n, const struct nvme_command *c)
{
	uint64_t len = (((uint64_t)(c->cdw11 & 0xffff) << 16 | c->cdw10 >> 16) + 1) * 4;
	uint64_t offset = (uint64_t)c->cdw13 << 32 | c->cdw12, have;
	unsigned id = c->cdw10 & 0xff;
	uint64_t page[PAGE_MAX / 8] = { 0 };
	size_t size = make_page(n, id, page);
	uint16_t status;

	if (size == 0)
		return NVME_SC_LOG_PAGE | NVME_SC_DNR;
	/* No page is kept by namespace: LPA bit 0. */
	if (len > NVME_MAX_TRANSFER || offset % 4 || offset > size ||
	    (c->nsid != 0 && c->nsid != NVME_NSID_ALL))
		return NVME_SC_INVALID_FIELD | NVME_SC_DNR;
	have = size - offset < len ? size - offset : len;
	status =
		nvme_prp_write(n, c, (const uint8_t *)page + offset, (uint32_t)have, (uint32_t)len);
	if (status || c->cdw10 >> 15 & 1) /* Retain Asynchronous Event */
		return status;
	if (id == NVME_LOG_ERROR)
		nvme_event_read(n, NVME_EVENT_ERROR);
	else if (id == NVME_LOG_SMART)
		nvme_event_read(n, NVME_EVENT_SMART);
	else if (id == NVME_LOG_CHANGED_NS)
		nvme_event_read(n, NVME_EVENT_NOTICE);
	return NVME_SC_SUCCESS;
}
