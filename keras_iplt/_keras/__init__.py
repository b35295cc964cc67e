"""Every attribute of Keras that is not public API and that keras_iplt relies on, by subject.

When Keras changes one of them, `tests/test_keras_private.py` fails and names it; it also sees to it
that nothing else in keras_iplt reaches into Keras. What there is, each module lists.
"""

from keras_iplt._keras.graphs import *
from keras_iplt._keras.layers import *
from keras_iplt._keras.live import *
from keras_iplt._keras.optimizers import *
from keras_iplt._keras.stand_ins import *
from keras_iplt._keras.training import *
