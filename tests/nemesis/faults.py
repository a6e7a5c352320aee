"""All faults, in the order in which they are told and run by --each."""

from backups import Backup
from faults_damage import FlipOffline, FlipOnline
from faults_disk import FullDisk, PowerCut, SlowDisk, StallDisk
from faults_members import AddRemove, Replace, Transfer
from faults_network import ClockJump, Cut, Flap, Partition, SlowLinks
from faults_process import Kill, Pause, RollingRestart

ALL = (Kill, Pause, Partition, Flap, SlowLinks, Cut, StallDisk, SlowDisk, FullDisk, PowerCut,
       FlipOffline, FlipOnline, RollingRestart, Transfer, AddRemove, Replace, Backup, ClockJump)
BY_NAME = {fault.name: fault for fault in ALL}
