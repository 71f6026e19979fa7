/*
 * Identify: what the controller and its one namespace are. NVM Express Base 1.4 section 5.15.
 */
#include <stdio.h>
#include <string.h>

#include "devices/emulated/nvme.h"

/* ASCII fields are padded with blanks, without an end. */
static void put_text(char *field, size_t size, const char *text)
{
	size_t len = strlen(text);

	memset(field, ' ', size);
	memcpy(field, text, len < size ? len : size);
}

/*
 * A UUID of our own making (RFC 9562, version 8) out of the serial number, so that the disk keeps
 * it: two FNV-1a sums.
 */
static void make_uuid(const char *serial, uint8_t uuid[16])
{
	for (unsigned half = 0; half < 2; half++) {
		uint64_t h = 0xcbf29ce484222325ull + half;

		for (const char *p = serial; *p; p++)
			h = (h ^ (uint8_t)*p) * 0x100000001b3ull;
		memcpy(uuid + 8u * half, &h, 8);
	}
	uuid[6] = (uint8_t)(0x80 | (uuid[6] & 0x0f));
	uuid[8] = (uint8_t)(0x80 | (uuid[8] & 0x3f));
}

static void put_subnqn(char *field, size_t size, const char *serial)
{
	uint8_t u[16];

	make_uuid(serial, u);
	snprintf(field, size,
		 "nqn.2014-08.org.nvmexpress:uuid:%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
		 "%02x%02x%02x%02x%02x%02x",
		 u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12],
		 u[13], u[14], u[15]);
}

static uint16_t identify_controller(struct nvme *n, const struct nvme_command *c)
{
	struct nvme_identify_controller id = {
		.vid = pci_config_get16(&n->f, 0x00),
		.ssvid = pci_config_get16(&n->f, 0x2c),
		.ieee = { 0x00, 0x54, 0x52 }, /* locally administered */
		.mdts = NVME_MDTS,
		.ver = 0x00010400,
		.cntrltype = 1, /* I/O controller */
		.oacs = (uint16_t)(NVME_OACS_FORMAT | (n->offers_shadow ? NVME_OACS_DBBUF : 0)),
		.acl = 3,
		.aerl = NVME_AERS - 1,
		.frmw = 1 << 1 | 1, /* one slot, read-only */
		.lpa = NVME_LPA_EFFECTS | NVME_LPA_EXTENDED,
		.elpe = NVME_ERRORS - 1,
		.wctemp = 343,
		.cctemp = 373,
		.sqes = NVME_SQES << 4 | NVME_SQES,
		.cqes = NVME_CQES << 4 | NVME_CQES,
		.nn = 1,
		.oncs = NVME_ONCS_DSM | NVME_ONCS_ZEROES | NVME_ONCS_SAVE,
		.vwc = NVME_VWC_PRESENT | NVME_VWC_FLUSH_ALL,
		.psd = { { .max_power = 2500 } },
	};

	put_text(id.sn, sizeof(id.sn), n->serial);
	put_text(id.mn, sizeof(id.mn), "mvm NVMe disk");
	put_text(id.fr, sizeof(id.fr), MVM_VERSION);
	put_subnqn(id.subnqn, sizeof(id.subnqn), n->serial);
	return nvme_prp_write(n, c, &id, sizeof(id), sizeof(id));
}

static uint16_t identify_namespace(struct nvme *n, const struct nvme_command *c)
{
	const struct block_info *info = block_info(n->block);
	uint16_t grain = (uint16_t)(info->physical_block / info->logical_block - 1);
	struct nvme_identify_namespace id = {
		.nsze = n->blocks,
		.ncap = n->blocks,
		.nuse = n->blocks,
		.nsfeat = NVME_NSFEAT_OPTIMAL,
		.dlfeat = NVME_DLFEAT_DEAC,
		.nvmcap = { info->size },
		.npwg = grain,
		.npwa = grain,
		.npdg = grain,
		.npda = grain,
		.nsattr = info->read_only ? NVME_NSATTR_PROTECTED : 0,
		.lbaf = { n->block_shift << 16 },
	};

	if (c->nsid != 1)
		return NVME_SC_INVALID_NAMESPACE | NVME_SC_DNR;
	return nvme_prp_write(n, c, &id, sizeof(id), sizeof(id));
}

static uint16_t active_namespaces(struct nvme *n, const struct nvme_command *c)
{
	uint32_t list = c->nsid < 1 ? 1 : 0;

	if (c->nsid >= NVME_NSID_ALL - 1)
		return NVME_SC_INVALID_NAMESPACE | NVME_SC_DNR;
	return nvme_prp_write(n, c, &list, sizeof(list), NVME_IDENTIFY_SIZE);
}

static uint16_t descriptors(struct nvme *n, const struct nvme_command *c)
{
	uint8_t list[4 + 16] = { NVME_NIDT_UUID, 16 };

	if (c->nsid != 1)
		return NVME_SC_INVALID_NAMESPACE | NVME_SC_DNR;
	make_uuid(n->serial, list + 4);
	return nvme_prp_write(n, c, list, sizeof(list), NVME_IDENTIFY_SIZE);
}

uint16_t nvme_identify(struct nvme *n, const struct nvme_command *c)
{
	switch (c->cdw10 & 0xff) {
	case NVME_CNS_NAMESPACE:
		return identify_namespace(n, c);
	case NVME_CNS_CONTROLLER:
		return identify_controller(n, c);
	case NVME_CNS_ACTIVE_NAMESPACES:
		return active_namespaces(n, c);
	case NVME_CNS_DESCRIPTORS:
		return descriptors(n, c);
	default:
		return NVME_SC_INVALID_FIELD | NVME_SC_DNR;
	}
}
