"""Facts of the testbed's world: cities, functions, attitudes, and its simple English.

Tasks and the pretraining corpus both use them, and nothing here loads a model.
"""
