using System.Net;

namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>When webhooks are attempted, how many at a time, whereto, and how long what became of them is kept.</summary>
public sealed class WebhookDeliveryOptions : IValidOptions
{
    private static IReadOnlyList<TimeSpan> Published { get; } =
    [
        TimeSpan.Zero, TimeSpan.FromSeconds(5), TimeSpan.FromMinutes(5), TimeSpan.FromMinutes(30), TimeSpan.FromHours(2),
        TimeSpan.FromHours(5), TimeSpan.FromHours(10), TimeSpan.FromHours(14), TimeSpan.FromHours(20), TimeSpan.FromHours(24),
    ];

    private static TimeSpan LongestDelay { get; } = TimeSpan.FromDays(7);

    internal IReadOnlyList<TimeSpan> Delays => Schedule ?? Published;

    /// <summary>The label on metrics and in logs. Set by <c>AddWebhookDelivery</c>.</summary>
    public string Name { get; set; } = "";

    /// <summary>
    /// The delays before the attempts, each from the end of the one before; shortened by up to a fifth at random. 1 to 50 delays of 0 to 7 days; the first is 0. Default 0, 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h,
    /// 20 h, 24 h, said by null: configuration that is bound would be added to a list that is there.
    /// </summary>
    public IReadOnlyList<TimeSpan>? Schedule { get; set; }

    /// <summary>No attempt is begun later than this after the first: receivers remember an id for so long. 1 min to 30 days; default 80 h.</summary>
    public TimeSpan AttemptWindow { get; set; } = TimeSpan.FromHours(80);

    /// <summary>The one deadline over connection, headers and body. 100 ms to 5 min; default 15 s.</summary>
    public TimeSpan AttemptTimeout { get; set; } = TimeSpan.FromSeconds(15);

    /// <summary>After this a delivery is taken from a worker that has not reported. At least <see cref="AttemptTimeout"/> and 5 s more, at most 1 h; default 60 s.</summary>
    public TimeSpan Lease { get; set; } = TimeSpan.FromSeconds(60);

    /// <summary>Attempts at a time in this process; endpoints that have not answered well lately get half of it at most. 2 to 10 000; default 256.</summary>
    public int MaxConcurrency { get; set; } = 256;

    /// <summary>Attempts at a time for one endpoint in this process; it begins with 1 and doubles with each good answer. 1 to 1 000; default 8.</summary>
    public int MaxConcurrencyPerEndpoint { get; set; } = 8;

    /// <summary>How often the store is asked when nothing happens. 10 ms to 1 min; default 200 ms.</summary>
    public TimeSpan PollInterval { get; set; } = TimeSpan.FromMilliseconds(200);

    /// <summary>How long an endpoint is left alone after the first failure; doubled with each further one. 1 ms to 1 h; default 1 s.</summary>
    public TimeSpan FirstPause { get; set; } = TimeSpan.FromSeconds(1);

    /// <summary>The longest pause, but for a longer <c>Retry-After</c>. <see cref="FirstPause"/> to 1 day; default 5 min.</summary>
    public TimeSpan MaxPause { get; set; } = TimeSpan.FromMinutes(5);

    /// <summary>An endpoint that did nothing but fail for so long is disabled. 1 min to 365 days; default 5 days.</summary>
    public TimeSpan DisableAfter { get; set; } = TimeSpan.FromDays(5);

    /// <summary>How long finished deliveries, their attempts and their events are kept. 1 min to 3 650 days; default 30 days.</summary>
    public TimeSpan Retention { get; set; } = TimeSpan.FromDays(30);

    /// <summary>Whether endpoints may be <c>http://</c>. Default false.</summary>
    public bool AllowHttp { get; set; }

    /// <summary>The ports that endpoints may have. Default none named: 80, 443 and 1 024 to 65 535.</summary>
    public IList<int> AllowedPorts { get; } = [];

    /// <summary>The hosts that endpoints may have, such as <c>example.com</c> or <c>*.example.com</c>. Default none named: all.</summary>
    public IList<string> AllowedHosts { get; } = [];

    /// <summary>Networks that may be connected to though they are not of the public internet, such as <c>10.1.0.0/16</c>. Default none.</summary>
    public IList<string> AllowedNetworks { get; } = [];

    /// <summary>Whether this process delivers; without, it only enqueues. Default true.</summary>
    public bool Deliver { get; set; } = true;

    /// <summary>The <c>Content-Type</c> that is sent. Default <c>application/json</c>.</summary>
    public string ContentType { get; set; } = "application/json";

    /// <summary>The <c>User-Agent</c> that is sent. Default <c>Backend.Toolkit.Webhooks</c>.</summary>
    public string UserAgent { get; set; } = "Backend.Toolkit.Webhooks";

    /// <summary>Makes of a secret what is stored, such as <c>IDataProtector.Protect</c>. Default null: it is stored as it is, with a warning outside Development.</summary>
    public Func<string, string>? Protect { get; set; }

    /// <summary>The reverse of <see cref="Protect"/>; both or neither. Default null.</summary>
    public Func<string, string>? Unprotect { get; set; }

    /// <summary>One sentence for each value that is out of range: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public IEnumerable<string> Problems()
    {
        if (Delays is not { Count: >= 1 and <= 50 } || Delays[0] != TimeSpan.Zero || Delays.Any(delay => delay < TimeSpan.Zero || delay > LongestDelay))
        {
            yield return this.Problem(nameof(Schedule), "1 to 50 delays between 00:00:00 and 7.00:00:00, of which the first is 00:00:00", $"[{string.Join(", ", Delays.Select(delay => delay.ToString()))}]");
        }

        foreach ((string property, TimeSpan value, TimeSpan from, TimeSpan to) in new[]
        {
            (nameof(AttemptWindow), AttemptWindow, TimeSpan.FromMinutes(1), TimeSpan.FromDays(30)),
            (nameof(AttemptTimeout), AttemptTimeout, TimeSpan.FromMilliseconds(100), TimeSpan.FromMinutes(5)),
            (nameof(Lease), Lease, AttemptTimeout + TimeSpan.FromSeconds(5), TimeSpan.FromHours(1)),
            (nameof(PollInterval), PollInterval, TimeSpan.FromMilliseconds(10), TimeSpan.FromMinutes(1)),
            (nameof(FirstPause), FirstPause, TimeSpan.FromMilliseconds(1), TimeSpan.FromHours(1)),
            (nameof(MaxPause), MaxPause, FirstPause, TimeSpan.FromDays(1)),
            (nameof(DisableAfter), DisableAfter, TimeSpan.FromMinutes(1), TimeSpan.FromDays(365)),
            (nameof(Retention), Retention, TimeSpan.FromMinutes(1), TimeSpan.FromDays(3650)),
        })
        {
            if (value < from || value > to)
            {
                yield return this.Problem(property, ValidOptions.Invariant($"between {from} and {to}"), value);
            }
        }

        if (MaxConcurrency is < 2 or > 10_000)
        {
            yield return this.Problem(nameof(MaxConcurrency), "between 2 and 10000", MaxConcurrency);
        }

        if (MaxConcurrencyPerEndpoint is < 1 or > 1000)
        {
            yield return this.Problem(nameof(MaxConcurrencyPerEndpoint), "between 1 and 1000", MaxConcurrencyPerEndpoint);
        }

        foreach (int port in AllowedPorts.Where(port => port is < 1 or > 65_535))
        {
            yield return this.Problem(nameof(AllowedPorts), "between 1 and 65535", port);
        }

        foreach (string host in AllowedHosts.Where(host => Uri.CheckHostName(host is ['*', '.', ..] ? host[2..] : host) == UriHostNameType.Unknown))
        {
            yield return this.Problem(nameof(AllowedHosts), "host names, perhaps with *. before them", $"'{host}'");
        }

        foreach (string network in AllowedNetworks.Where(network => !IPNetwork.TryParse(network, out _)))
        {
            yield return this.Problem(nameof(AllowedNetworks), "networks such as 10.1.0.0/16", $"'{network}'");
        }

        if (!System.Net.Http.Headers.MediaTypeHeaderValue.TryParse(ContentType, out _))
        {
            yield return this.Problem(nameof(ContentType), "a media type such as application/json", $"'{ContentType}'");
        }

        if (string.IsNullOrWhiteSpace(UserAgent) || UserAgent.Any(character => character is < ' ' or > '~'))
        {
            yield return this.Problem(nameof(UserAgent), "printable ASCII", $"'{UserAgent}'");
        }

        if (Protect is null != Unprotect is null)
        {
            yield return this.Problem(nameof(Protect), "set together with Unprotect", Protect is null ? "not set" : "set alone");
        }
    }
}
