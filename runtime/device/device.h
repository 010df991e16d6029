// A device: memory and the ops over it. One whose memory the host does not reach and whose work it
// does not wait for is a QueuedDevice as well.
#pragma once

#include <string>

#include "runtime/device/ops.h"
#include "runtime/device/queue.h"
#include "runtime/device/store.h"

namespace thermocline {

class QueuedDevice;

class Device : public DeviceStore, public DeviceOps {
 public:
  virtual const std::string& name() const = 0;
  // This device, if it is a queued one; null for one of the host.
  virtual QueuedDevice* queued() { return nullptr; }
};

class QueuedDevice : public Device,
                     public DeviceQueue,
                     public DeviceSampling,
                     public DeviceTimes,
                     public DeviceLinks,
                     public QueuedStore {
 public:
  QueuedDevice* queued() final { return this; }
};

}  // namespace thermocline
