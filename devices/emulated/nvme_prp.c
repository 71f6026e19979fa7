/*
 * Physical region pages: a command's data pointer as host iovecs. NVM Express Base 1.4 section 4.3.
 * Each list entry is read from guest memory once; a list page that links to the next one must give
 * at least one page of data first, so a list that points at itself ends with the transfer.
 */
#include <string.h>

#include "devices/emulated/nvme.h"

struct walk {
	const struct guest_memory *memory;
	struct iovec *iov;
	int max, n;
	uint32_t left; /* bytes of the transfer */
};

/* Up to the end of the page that address is in. */
static uint16_t take_page(struct walk *w, uint64_t address)
{
	uint32_t in_page = NVME_PAGE - (uint32_t)(address % NVME_PAGE);
	uint32_t len = w->left < in_page ? w->left : in_page;
	struct iovec *last = w->n ? &w->iov[w->n - 1] : NULL;
	uint8_t *host = memory_map(w->memory, address, len, 1);

	if (!host)
		return NVME_SC_DATA_TRANSFER;
	w->left -= len;
	if (last && (uint8_t *)last->iov_base + last->iov_len == host) {
		last->iov_len += len;
		return NVME_SC_SUCCESS;
	}
	if (w->n == w->max)
		return NVME_SC_INTERNAL; /* callers give enough */
	w->iov[w->n++] = (struct iovec){ host, len };
	return NVME_SC_SUCCESS;
}

/* Entries from address to the end of its page; *next is the link to the next one, if any. */
static uint16_t take_list(struct walk *w, uint64_t address, uint64_t *next)
{
	unsigned entries = (NVME_PAGE - (unsigned)(address % NVME_PAGE)) / 8;
	const uint64_t *list = memory_map(w->memory, address, entries * 8ull, 8);

	if (!list)
		return NVME_SC_DATA_TRANSFER;
	for (unsigned i = 0; i < entries && w->left; i++) {
		uint64_t entry = __atomic_load_n(&list[i], __ATOMIC_RELAXED);
		uint16_t status;

		if (entry % NVME_PAGE)
			return NVME_SC_PRP_OFFSET;
		if (i == entries - 1 && w->left > NVME_PAGE) {
			*next = entry;
			break;
		}
		status = take_page(w, entry);
		if (status)
			return status;
	}
	return NVME_SC_SUCCESS;
}

uint16_t nvme_prp_iov(const struct guest_memory *memory, uint64_t prp1, uint64_t prp2, uint32_t len,
		      struct iovec *iov, int max, int *niov)
{
	struct walk w = { .memory = memory, .iov = iov, .max = max, .left = len };
	uint16_t status;

	if (prp1 % 4)
		return NVME_SC_PRP_OFFSET;
	status = take_page(&w, prp1);
	if (!status && w.left && w.left <= NVME_PAGE) {
		status = prp2 % NVME_PAGE ? NVME_SC_PRP_OFFSET : take_page(&w, prp2);
	} else if (!status && w.left) {
		if (prp2 % 8)
			return NVME_SC_PRP_OFFSET;
		while (!status && w.left)
			status = take_list(&w, prp2, &prp2);
	}
	*niov = w.n;
	return status;
}

uint16_t nvme_prp_write(const struct nvme *n, const struct nvme_command *c, const void *data,
			uint32_t have, uint32_t len)
{
	struct iovec iov[NVME_MAX_IOV];
	const uint8_t *from = data;
	uint16_t status;
	int niov;

	status = nvme_prp_iov(n->dev.host->memory, c->prp1, c->prp2, len, iov, NVME_MAX_IOV, &niov);
	if (status)
		return status | NVME_SC_DNR;
	for (int i = 0; i < niov; i++) {
		size_t part = iov[i].iov_len < have ? iov[i].iov_len : have;

		memcpy(iov[i].iov_base, from, part);
		memset((uint8_t *)iov[i].iov_base + part, 0, iov[i].iov_len - part);
		from += part;
		have -= (uint32_t)part;
	}
	return NVME_SC_SUCCESS;
}
