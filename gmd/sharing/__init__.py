"""Dynamic Sharing for anybody's network (Wang et al., AAAI 2024): one network, and norms of each modality's own.

`gmd.share` makes a `Shared` network of one that takes the input of one modality. It needs torch alone. Modules whose
names start with an underscore are parts of it.
"""

from gmd.sharing.shared import Shared, share

__all__ = ["Shared", "share"]
