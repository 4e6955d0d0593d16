"""Runs moto on a free port, prints it, and ends when the test program that started it does."""

import copy
import os
import sys
import threading

from moto.ec2.models import EC2Backend
from moto.ec2.models.instances import Instance
from moto.ec2.responses.instances import InstanceResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

create_volume = EC2Backend.create_volume
terminate = Instance.terminate


def with_the_size_of_the_image(self, size=None, zone_name=None, snapshot_id=None, **settings):
    """moto refuses a root volume without a size; on AWS it has the size that it has in the AMI."""
    if size is None and snapshot_id is None:
        size = 8
    return create_volume(self, size=size, zone_name=zone_name, snapshot_id=snapshot_id, **settings)


def terminate_once(self):
    """moto fails at the network interfaces of what has ended already; on AWS that is no error."""
    return copy.copy(self._state) if self._state.name == "terminated" else terminate(self)


Instance.terminate = terminate_once
EC2Backend.create_volume = with_the_size_of_the_image
# It refuses it a second time where the instance is started without a template.
InstanceResponse._validate_block_device_mapping = staticmethod(lambda mapping: None)

server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.port, flush=True)


def end_with_the_test():
    # The pipe is closed when the test program ends, however it ends.
    sys.stdin.buffer.read()
    os._exit(0)


threading.Thread(target=end_with_the_test, daemon=True).start()
server.serve_forever()
