/*
 * NVM Express Base Specification 1.4 as numbers: registers' bits, commands, status codes and the
 * layout of what controller and driver exchange in memory. Names are the specification's. All of it
 * is little-endian, and so is every host that mvm runs on.
 */
#ifndef DEVICES_EMULATED_NVME_SPEC_H
#define DEVICES_EMULATED_NVME_SPEC_H

#include <stdint.h>

/* ---- registers (section 3.1) ---- */

#define NVME_CAP_MQES(n) ((uint64_t)(n)) /* entries of a queue, less one */
#define NVME_CAP_CQR	 (1ull << 16)	 /* queues are contiguous in memory */
#define NVME_CAP_TO(n)	 ((uint64_t)(n) << 24)
#define NVME_CAP_CSS_NVM (1ull << 37)

#define NVME_CC_EN	   (1u << 0)
#define NVME_CC_CSS(cc)	   ((cc) >> 4 & 7)
#define NVME_CC_MPS(cc)	   ((cc) >> 7 & 0xf)
#define NVME_CC_AMS(cc)	   ((cc) >> 11 & 7)
#define NVME_CC_SHN(cc)	   ((cc) >> 14 & 3)
#define NVME_CC_IOSQES(cc) ((cc) >> 16 & 0xf)
#define NVME_CC_IOCQES(cc) ((cc) >> 20 & 0xf)
#define NVME_CC_WRITABLE   0x00fffff1u

#define NVME_CSTS_RDY	    (1u << 0)
#define NVME_CSTS_CFS	    (1u << 1)
#define NVME_CSTS_SHST	    (3u << 2)
#define NVME_CSTS_SHST_BUSY (1u << 2)
#define NVME_CSTS_SHST_DONE (2u << 2)

#define NVME_SQES 6 /* log2 of an entry's size */
#define NVME_CQES 4

/* ---- commands (sections 4.2, 4.6) ---- */

struct nvme_command {
	uint8_t opcode;
	uint8_t flags; /* FUSE, PSDT */
	uint16_t cid;
	uint32_t nsid;
	uint32_t cdw2, cdw3;
	uint64_t mptr;
	uint64_t prp1, prp2;
	uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};

#define NVME_FLAGS_FUSE 0x03u
#define NVME_FLAGS_PSDT 0xc0u

struct nvme_completion {
	uint32_t result;
	uint32_t reserved;
	uint16_t sqhd;
	uint16_t sqid;
	uint16_t cid;
	uint16_t status; /* phase tag, then the status field */
};

_Static_assert(sizeof(struct nvme_command) == 1 << NVME_SQES, "64 bytes");
_Static_assert(sizeof(struct nvme_completion) == 1 << NVME_CQES, "16 bytes");

#define NVME_NSID_ALL 0xffffffffu

enum nvme_admin_opcode {
	NVME_ADMIN_DELETE_SQ = 0x00,
	NVME_ADMIN_CREATE_SQ = 0x01,
	NVME_ADMIN_GET_LOG_PAGE = 0x02,
	NVME_ADMIN_DELETE_CQ = 0x04,
	NVME_ADMIN_CREATE_CQ = 0x05,
	NVME_ADMIN_IDENTIFY = 0x06,
	NVME_ADMIN_ABORT = 0x08,
	NVME_ADMIN_SET_FEATURES = 0x09,
	NVME_ADMIN_GET_FEATURES = 0x0a,
	NVME_ADMIN_ASYNC_EVENT = 0x0c,
	NVME_ADMIN_DBBUF_CONFIG = 0x7c,
	NVME_ADMIN_FORMAT_NVM = 0x80,
};

enum nvme_opcode {
	NVME_FLUSH = 0x00,
	NVME_WRITE = 0x01,
	NVME_READ = 0x02,
	NVME_WRITE_ZEROES = 0x08,
	NVME_DSM = 0x09,
};

#define NVME_CDW12_FUA	(1u << 30) /* Read, Write, Write Zeroes */
#define NVME_CDW12_DEAC (1u << 25) /* Write Zeroes: may deallocate */
#define NVME_DSM_AD	(1u << 2)  /* cdw11: deallocate */
#define NVME_DSM_RANGES 256u

struct nvme_dsm_range {
	uint32_t attributes;
	uint32_t blocks;
	uint64_t slba;
};

/* ---- status (section 4.6.1): type << 8 | code, and two flags ---- */

#define NVME_SC_SUCCESS		   0x000
#define NVME_SC_INVALID_OPCODE	   0x001
#define NVME_SC_INVALID_FIELD	   0x002
#define NVME_SC_DATA_TRANSFER	   0x004
#define NVME_SC_INTERNAL	   0x006
#define NVME_SC_ABORT_REQUESTED	   0x007
#define NVME_SC_INVALID_NAMESPACE  0x00b
#define NVME_SC_SEQUENCE	   0x00c
#define NVME_SC_PRP_OFFSET	   0x013
#define NVME_SC_WRITE_PROTECTED	   0x020
#define NVME_SC_LBA_RANGE	   0x080
#define NVME_SC_CAPACITY	   0x081
#define NVME_SC_FORMAT_IN_PROGRESS 0x084
#define NVME_SC_CQ_INVALID	   0x100
#define NVME_SC_QID_INVALID	   0x101
#define NVME_SC_QUEUE_SIZE	   0x102
#define NVME_SC_ABORT_LIMIT	   0x103
#define NVME_SC_AER_LIMIT	   0x105
#define NVME_SC_INTERRUPT_VECTOR   0x108
#define NVME_SC_LOG_PAGE	   0x109
#define NVME_SC_INVALID_FORMAT	   0x10a
#define NVME_SC_QUEUE_DELETION	   0x10c
#define NVME_SC_NOT_SAVEABLE	   0x10d
#define NVME_SC_NOT_CHANGEABLE	   0x10e
#define NVME_SC_NOT_NS_SPECIFIC	   0x10f
#define NVME_SC_WRITE_FAULT	   0x280
#define NVME_SC_READ_ERROR	   0x281
#define NVME_SC_MORE		   0x2000 /* the error log knows more */
#define NVME_SC_DNR		   0x4000 /* it would fail again */

/* ---- asynchronous events (section 5.2) ---- */

enum nvme_event_type { NVME_EVENT_ERROR, NVME_EVENT_SMART, NVME_EVENT_NOTICE, NVME_EVENT_TYPES };

#define NVME_EVENT_INVALID_DOORBELL 0 /* of NVME_EVENT_ERROR: no such queue */
#define NVME_EVENT_INVALID_VALUE    1 /* likewise: not a place in the queue */
#define NVME_EVENT_TEMPERATURE	    1 /* of NVME_EVENT_SMART */

/* ---- Identify (section 5.15) ---- */

enum nvme_cns {
	NVME_CNS_NAMESPACE = 0x00,
	NVME_CNS_CONTROLLER = 0x01,
	NVME_CNS_ACTIVE_NAMESPACES = 0x02,
	NVME_CNS_DESCRIPTORS = 0x03,
};

#define NVME_IDENTIFY_SIZE 4096u

#define NVME_OACS_FORMAT   (1u << 1)
#define NVME_OACS_DBBUF	   (1u << 8)
#define NVME_ONCS_DSM	   (1u << 2)
#define NVME_ONCS_ZEROES   (1u << 3)
#define NVME_ONCS_SAVE	   (1u << 4) /* Save and Select of features */
#define NVME_LPA_EFFECTS   (1u << 1)
#define NVME_LPA_EXTENDED  (1u << 2)
#define NVME_VWC_PRESENT   (1u << 0)
#define NVME_VWC_FLUSH_ALL (3u << 1) /* Flush takes NSID FFFFFFFFh */

struct nvme_power_state {
	uint16_t max_power; /* 0.01 W */
	uint8_t rest[30];
};

struct nvme_identify_controller {
	uint16_t vid, ssvid;
	char sn[20], mn[40], fr[8];
	uint8_t rab, ieee[3], cmic, mdts;
	uint16_t cntlid;
	uint32_t ver, rtd3r, rtd3e, oaes, ctratt;
	uint16_t rrls;
	uint8_t reserved102[9], cntrltype, fguid[16];
	uint16_t crdt[3];
	uint8_t reserved134[122];
	uint16_t oacs; /* byte 256 */
	uint8_t acl, aerl, frmw, lpa, elpe, npss, avscc, apsta;
	uint16_t wctemp, cctemp, mtfa;
	uint32_t hmpre, hmmin;
	uint8_t reserved280[232];
	uint8_t sqes, cqes; /* byte 512 */
	uint16_t maxcmd;
	uint32_t nn;
	uint16_t oncs, fuses;
	uint8_t fna, vwc;
	uint16_t awun, awupf;
	uint8_t nvscc, nwpc;
	uint16_t acwu, reserved534;
	uint32_t sgls, mnan;
	uint8_t reserved544[224];
	char subnqn[256]; /* byte 768 */
	uint8_t reserved1024[1024];
	struct nvme_power_state psd[32]; /* byte 2048 */
	uint8_t vendor[1024];
};

_Static_assert(sizeof(struct nvme_identify_controller) == NVME_IDENTIFY_SIZE, "4096 bytes");

#define NVME_NSFEAT_OPTIMAL   (1u << 4) /* NPWG … NOWS are there */
#define NVME_DLFEAT_DEAC      (1u << 3) /* Write Zeroes takes DEAC */
#define NVME_NSATTR_PROTECTED 1u

struct nvme_identify_namespace {
	uint64_t nsze, ncap, nuse;
	uint8_t nsfeat, nlbaf, flbas, mc, dpc, dps, nmic, rescap, fpi, dlfeat;
	uint16_t nawun, nawupf, nacwu, nabsn, nabo, nabspf, noiob;
	uint64_t nvmcap[2];
	uint16_t npwg, npwa, npdg, npda, nows;
	uint8_t reserved74[18];
	uint32_t anagrpid;
	uint8_t reserved96[3], nsattr;
	uint16_t nvmsetid, endgid;
	uint8_t nguid[16], eui64[8];
	uint32_t lbaf[16]; /* metadata size, log2 of the data size << 16 */
	uint8_t reserved192[192], vendor[3712];
};

_Static_assert(sizeof(struct nvme_identify_namespace) == NVME_IDENTIFY_SIZE, "4096 bytes");

#define NVME_NIDT_UUID 3

/* ---- log pages (section 5.14) ---- */

enum nvme_log {
	NVME_LOG_ERROR = 0x01,
	NVME_LOG_SMART = 0x02,
	NVME_LOG_FIRMWARE = 0x03,
	NVME_LOG_CHANGED_NS = 0x04,
	NVME_LOG_EFFECTS = 0x05,
};

struct nvme_error_entry {
	uint64_t count;
	uint16_t sqid, cid, status, location;
	uint64_t lba;
	uint32_t nsid;
	uint8_t vendor, trtype, reserved30[2];
	uint64_t specific;
	uint16_t trinfo;
	uint8_t reserved42[22];
};

_Static_assert(sizeof(struct nvme_error_entry) == 64, "64 bytes");

#define NVME_SMART_TEMPERATURE (1u << 1) /* critical warning */
#define NVME_SMART_READ_ONLY   (1u << 3)

struct nvme_smart_log {
	uint8_t critical_warning;
	uint8_t temperature[2]; /* kelvin */
	uint8_t spare, spare_threshold, used, endurance, reserved7[25];
	uint64_t data_units_read[2], data_units_written[2]; /* 1000 × 512 bytes, rounded up */
	uint64_t host_reads[2], host_writes[2];
	uint64_t busy_minutes[2], power_cycles[2], power_on_hours[2], unsafe_shutdowns[2];
	uint64_t media_errors[2], error_entries[2];
	uint32_t warning_minutes, critical_minutes;
	uint16_t sensor[8];
	uint8_t reserved216[296];
};

_Static_assert(sizeof(struct nvme_smart_log) == 512, "512 bytes");

struct nvme_firmware_log {
	uint8_t afi, reserved1[7];
	char frs[7][8];
	uint8_t reserved64[448];
};

_Static_assert(sizeof(struct nvme_firmware_log) == 512, "512 bytes");

#define NVME_EFFECT_SUPPORTED (1u << 0)
#define NVME_EFFECT_CONTENT   (1u << 1)	 /* changes what is on the disk */
#define NVME_EFFECT_ALONE     (2u << 16) /* CSE: no command to any namespace beside it */

struct nvme_effects_log {
	uint32_t admin[256], io[256];
	uint8_t reserved[2048];
};

_Static_assert(sizeof(struct nvme_effects_log) == 4096, "4096 bytes");

/* ---- features (section 5.21) ---- */

enum nvme_feature {
	NVME_FEAT_ARBITRATION = 0x01,
	NVME_FEAT_POWER = 0x02,
	NVME_FEAT_TEMPERATURE = 0x04,
	NVME_FEAT_ERROR_RECOVERY = 0x05,
	NVME_FEAT_WRITE_CACHE = 0x06,
	NVME_FEAT_QUEUES = 0x07,
	NVME_FEAT_COALESCING = 0x08,
	NVME_FEAT_VECTOR = 0x09,
	NVME_FEAT_ATOMICITY = 0x0a,
	NVME_FEAT_ASYNC_EVENT = 0x0b,
	NVME_FEATURES
};

#endif
