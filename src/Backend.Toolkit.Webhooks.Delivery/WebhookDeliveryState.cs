namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>What became of one event at one endpoint.</summary>
public enum WebhookDeliveryState
{
    /// <summary>There is an attempt to come, or one under way.</summary>
    Pending = 0,

    /// <summary>The endpoint answered 2xx.</summary>
    Delivered = 1,

    /// <summary>A dead letter: no attempt is to come, unless it is redriven.</summary>
    Dead = 2,
}
