"""Facts of the testbed's world: cities, functions, attitudes, and its short English.

Tasks and the pretraining corpus both take them from here, and nothing here loads a model.
"""
