"""For gateway/tests/schemathesis.rs: how schemathesis reads YAML. A stream of documents is what a list of them is."""

import schemathesis
import yaml
from schemathesis.core.media_types import YAML_MEDIA_TYPES


# Of all names of YAML: the first of its table that fits is the one that is asked.
@schemathesis.deserializer(*YAML_MEDIA_TYPES)
def documents(_context, response):
    found = list(yaml.safe_load_all(response.content.decode("utf-8")))
    return found[0] if len(found) == 1 else found
