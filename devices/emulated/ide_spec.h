/*
 * ATA as numbers: registers' bits, commands, and the fields of what IDENTIFY DEVICE and SMART give.
 * ATA/ATAPI-7 (volumes 1 and 2); DATA SET MANAGEMENT from ATA8-ACS-2. Names are the standard's.
 */
#ifndef DEVICES_EMULATED_IDE_SPEC_H
#define DEVICES_EMULATED_IDE_SPEC_H

/* Status register (volume 1, section 5.14). */
#define ATA_BSY	 0x80u
#define ATA_DRDY 0x40u
#define ATA_DF	 0x20u
#define ATA_DSC	 0x10u /* seek complete: obsolete, and drivers still look for it */
#define ATA_DRQ	 0x08u
#define ATA_ERR	 0x01u

/* Error register. */
#define ATA_UNC	 0x40u
#define ATA_IDNF 0x10u
#define ATA_ABRT 0x04u
#define ATA_DIAG 0x01u /* after diagnostics: no fault */

/* Device register. */
#define ATA_DEV	    0x10u
#define ATA_LBA	    0x40u
#define ATA_DEV_SET 0xa0u /* obsolete bits, read as set */

/* Device Control register. */
#define ATA_NIEN 0x02u
#define ATA_SRST 0x04u
#define ATA_HOB	 0x80u

enum ata_command {
	ATA_NOP = 0x00,
	ATA_DATA_SET_MANAGEMENT = 0x06,
	ATA_RECALIBRATE = 0x10, /* … 1f */
	ATA_READ_SECTORS = 0x20,
	ATA_READ_SECTORS_NORETRY = 0x21,
	ATA_READ_SECTORS_EXT = 0x24,
	ATA_READ_DMA_EXT = 0x25,
	ATA_READ_NATIVE_MAX_EXT = 0x27,
	ATA_READ_MULTIPLE_EXT = 0x29,
	ATA_WRITE_SECTORS = 0x30,
	ATA_WRITE_SECTORS_NORETRY = 0x31,
	ATA_WRITE_SECTORS_EXT = 0x34,
	ATA_WRITE_DMA_EXT = 0x35,
	ATA_WRITE_MULTIPLE_EXT = 0x39,
	ATA_WRITE_DMA_FUA_EXT = 0x3d,
	ATA_READ_VERIFY = 0x40,
	ATA_READ_VERIFY_NORETRY = 0x41,
	ATA_READ_VERIFY_EXT = 0x42,
	ATA_SEEK = 0x70, /* … 7f */
	ATA_EXECUTE_DIAGNOSTIC = 0x90,
	ATA_INITIALIZE_PARAMETERS = 0x91,
	ATA_STANDBY_IMMEDIATE_OLD = 0x94,
	ATA_IDLE_IMMEDIATE_OLD = 0x95,
	ATA_STANDBY_OLD = 0x96,
	ATA_IDLE_OLD = 0x97,
	ATA_CHECK_POWER_OLD = 0x98,
	ATA_SLEEP_OLD = 0x99,
	ATA_SMART = 0xb0,
	ATA_READ_MULTIPLE = 0xc4,
	ATA_WRITE_MULTIPLE = 0xc5,
	ATA_SET_MULTIPLE = 0xc6,
	ATA_READ_DMA = 0xc8,
	ATA_READ_DMA_NORETRY = 0xc9,
	ATA_WRITE_DMA = 0xca,
	ATA_WRITE_DMA_NORETRY = 0xcb,
	ATA_WRITE_MULTIPLE_FUA_EXT = 0xce,
	ATA_STANDBY_IMMEDIATE = 0xe0,
	ATA_IDLE_IMMEDIATE = 0xe1,
	ATA_STANDBY = 0xe2,
	ATA_IDLE = 0xe3,
	ATA_CHECK_POWER = 0xe5,
	ATA_SLEEP = 0xe6,
	ATA_FLUSH_CACHE = 0xe7,
	ATA_FLUSH_CACHE_EXT = 0xea,
	ATA_IDENTIFY_DEVICE = 0xec,
	ATA_SET_FEATURES = 0xef,
	ATA_READ_NATIVE_MAX = 0xf8,
};

/* SET FEATURES subcommands (section 6.49). */
#define ATA_FEATURE_WRITE_CACHE_ON  0x02u
#define ATA_FEATURE_TRANSFER_MODE   0x03u
#define ATA_FEATURE_LOOK_AHEAD_OFF  0x55u
#define ATA_FEATURE_NO_REVERT	    0x66u
#define ATA_FEATURE_WRITE_CACHE_OFF 0x82u
#define ATA_FEATURE_LOOK_AHEAD_ON   0xaau
#define ATA_FEATURE_REVERT	    0xccu

/* SMART subcommands (section 6.53); LBA mid and high must hold the key. */
#define ATA_SMART_KEY_MID	0x4fu
#define ATA_SMART_KEY_HIGH	0xc2u
#define ATA_SMART_READ_DATA	0xd0u
#define ATA_SMART_READ_LIMITS	0xd1u
#define ATA_SMART_AUTOSAVE	0xd2u
#define ATA_SMART_READ_LOG	0xd5u
#define ATA_SMART_ENABLE	0xd8u
#define ATA_SMART_DISABLE	0xd9u
#define ATA_SMART_RETURN_STATUS 0xdau

/* CHECK POWER MODE's answers. */
#define ATA_POWER_STANDBY 0x00u
#define ATA_POWER_IDLE	  0x80u
#define ATA_POWER_ACTIVE  0xffu

#define ATA_LBA28_MAX 0x0fffffffu /* sectors that 28 bits reach */

/* A trim entry: 48 bits of LBA, 16 bits of sectors. */
#define ATA_TRIM_ENTRIES 64u /* of a sector */

#endif
