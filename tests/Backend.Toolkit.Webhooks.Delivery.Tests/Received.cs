namespace Backend.Toolkit.Webhooks.Delivery.Tests;

internal sealed record Received(string Line, Dictionary<string, string> Headers, byte[] Body);
