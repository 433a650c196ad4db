namespace Backend.Toolkit.Webhooks.Delivery.Tests;

/// <summary>What measures time or memory runs when nothing else does.</summary>
[CollectionDefinition("Alone", DisableParallelization = true)]
public sealed class Collections;
