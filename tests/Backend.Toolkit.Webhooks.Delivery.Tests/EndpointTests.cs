using System.Text;

namespace Backend.Toolkit.Webhooks.Delivery.Tests;

public sealed class EndpointTests
{
    [Fact]
    public async Task A_secret_is_protected_before_it_is_stored_and_told_once()
    {
        using Rig rig = await Rig.CreateAsync(o =>
        {
            o.Protect = secret => Convert.ToBase64String(Encoding.UTF8.GetBytes(new string([.. secret.Reverse()])));
            o.Unprotect = stored => new string([.. Encoding.UTF8.GetString(Convert.FromBase64String(stored)).Reverse()]);
        });

        NewWebhookEndpoint created = await rig.Endpoints.CreateAsync("acme", "https://example.com/");

        WebhookEndpointRow row = (await rig.Store.FindEndpointAsync(created.Endpoint.Id))!;
        string stored = Encoding.UTF8.GetString(Convert.FromBase64String(row.Secrets.Split(' ')[1]));
        created.Secret.Should().StartWith("whsec_");
        stored.Should().NotContain(created.Secret).And.NotContain(created.Secret["whsec_".Length..]);
        Secrets.Keys(row.Secrets, Support.Start, rig.Options).Select(key => key.Secret).Should().Equal(created.Secret);
    }

    [Fact]
    public async Task Rotated_secrets_overlap_and_expire()
    {
        using Rig rig = await Rig.CreateAsync();
        NewWebhookEndpoint created = await rig.Endpoints.CreateAsync("acme", "https://example.com/");

        string second = await rig.Endpoints.RotateSecretAsync(created.Endpoint.Id, TimeSpan.FromHours(24));
        string[] overlapping = await KeysAsync(rig, created.Endpoint.Id);
        rig.Time.Advance(TimeSpan.FromHours(25));
        string[] later = await KeysAsync(rig, created.Endpoint.Id);
        string third = await rig.Endpoints.RotateSecretAsync(created.Endpoint.Id, TimeSpan.Zero);
        string[] atOnce = await KeysAsync(rig, created.Endpoint.Id);

        overlapping.Should().Equal(second, created.Secret);
        later.Should().Equal(second);
        atOnce.Should().Equal(third);
    }

    [Fact]
    public async Task Rotations_at_once_lose_none()
    {
        using Rig rig = await Rig.CreateAsync();
        string id = await rig.AddEndpointAsync();

        string[] secrets = await Task.WhenAll(Enumerable.Range(0, 3).Select(_ => Task.Run(async () => await rig.Endpoints.RotateSecretAsync(id, TimeSpan.FromHours(1)))));

        (await KeysAsync(rig, id)).Should().Contain(secrets);
    }

    [Theory]
    [InlineData("")]
    [InlineData("whsec_")]
    [InlineData("whsec_c2hvcnQ=")]
    [InlineData("whsec_not base64 at all, but long enough")]
    [InlineData("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    [InlineData("whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYq=")]
    public async Task A_secret_that_is_none_is_refused_without_being_told(string secret)
    {
        using Rig rig = await Rig.CreateAsync();

        Func<Task> create = async () => await rig.Endpoints.CreateAsync("acme", "https://example.com/", secret: secret);

        ArgumentException refused = (await create.Should().ThrowAsync<ArgumentException>()).Which;
        if (secret.Length > 10)
        {
            refused.Message.Should().NotContain(secret);
        }
    }

    [Fact]
    public async Task What_is_changed_is_checked_as_what_is_created()
    {
        using Rig rig = await Rig.CreateAsync();
        string id = await rig.AddEndpointAsync();

        Func<Task> url = async () => await rig.Endpoints.ChangeAsync(id, url: "https://127.0.0.1/");
        Func<Task> types = async () => await rig.Endpoints.ChangeAsync(id, types: ["order created"]);
        Func<Task> unknown = async () => await rig.Endpoints.ChangeAsync("ep_none", url: "https://example.com/");
        WebhookEndpoint updated = await rig.Endpoints.ChangeAsync(id, types: ["order.paid", "order.paid"]);

        await url.Should().ThrowAsync<WebhookEndpointRefusedException>();
        await types.Should().ThrowAsync<ArgumentException>();
        await unknown.Should().ThrowAsync<KeyNotFoundException>();
        updated.Types.Should().Equal("order.paid");
        updated.Url.Should().Be("https://receiver.example.com/hooks");
    }

    [Fact]
    public async Task A_test_event_reaches_its_endpoint_alone()
    {
        using Rig rig = await Rig.CreateAsync();
        string id = (await rig.Endpoints.CreateAsync("acme", "https://one.example.com/", ["order.created"])).Endpoint.Id;
        await rig.AddEndpointAsync("two.example.com");
        var hosts = new System.Collections.Concurrent.ConcurrentQueue<string>();
        WebhookDeliveryWorker worker = rig.Worker(new Receiver(request =>
        {
            hosts.Enqueue(request.RequestUri!.Host);
            return 200;
        }));

        string sent = await rig.Endpoints.SendTestAsync(id);
        await Rig.StepAsync(worker);

        hosts.Should().Equal("one.example.com");
        (await rig.DeliveryAsync(sent)).Should().BeEquivalentTo(new { EventType = "webhook.test", State = WebhookDeliveryState.Delivered });
    }

    [Theory]
    [InlineData("a.b", "order.created", "acme", null)]
    [InlineData("", "order.created", "acme", null)]
    [InlineData("id\r\nx: y", "order.created", "acme", null)]
    [InlineData("msg_ä", "order.created", "acme", null)]
    [InlineData(null, "order created", "acme", null)]
    [InlineData(null, "", "acme", null)]
    [InlineData(null, "order.created", "", null)]
    [InlineData(null, "order.created", "a\nb", null)]
    [InlineData(null, "order.created", "acme", "")]
    public async Task An_event_that_could_not_be_sent_is_refused_before_anything_is_stored(string? id, string type, string audience, string? key)
    {
        using Rig rig = await Rig.CreateAsync();

        Func<Task> enqueue = async () => await rig.Outbox.EnqueueAsync(new WebhookEvent(type, "{}"u8.ToArray(), audience, id, key));

        await enqueue.Should().ThrowAsync<ArgumentException>();
        (await rig.Store.FanOutAsync(10)).Should().Be(0);
    }

    [Fact]
    public async Task A_text_that_a_database_would_change_is_refused_so_that_audiences_and_keys_do_not_meet()
    {
        using Rig rig = await Rig.CreateAsync();
        Func<Task>[] Calls(string text) =>
        [
            async () => await rig.AddEndpointAsync(audience: text),
            async () => await rig.Outbox.EnqueueAsync(new WebhookEvent("order.created", default, text)),
            async () => await rig.Outbox.EnqueueAsync(new WebhookEvent("order.created", default, "acme", OrderKey: text)),
        ];

        // Not as data of a theory: an attribute would change them.
        Func<Task>[] good = [.. new[] { "acme\ud83d\ude00", "acme\ufffd" }.SelectMany(Calls)];
        Func<Task>[] bad = [.. new[] { "acme\ud800", "acme\udc00", "\ude00\ud83d" }.SelectMany(Calls)];

        foreach (Func<Task> call in good)
        {
            await call.Should().NotThrowAsync();
        }

        foreach (Func<Task> call in bad)
        {
            await call.Should().ThrowAsync<ArgumentException>();
        }
    }

    [Fact]
    public void A_rotation_lengthens_the_life_of_no_older_secret_and_without_overlap_keeps_none()
    {
        WebhookDeliveryOptions options = Support.Options();
        string one = Secrets.Add("", Support.Secret, Support.Start, Support.Start, options);
        string two = Secrets.Add(one, WebhookKey.NewSecret(), Support.Start.AddHours(1), Support.Start, options);

        string three = Secrets.Add(two, WebhookKey.NewSecret(), Support.Start.AddDays(30), Support.Start, options);
        string alone = Secrets.Add(three, WebhookKey.NewSecret(), Support.Start, Support.Start, options);

        Secrets.Keys(three, Support.Start, options).Select(key => key.Expires).Should().Equal(null, Support.Start.AddDays(30), Support.Start.AddHours(1));
        alone.Should().NotContain("\n", "what is not needed is not stored");
    }

    [Fact]
    public async Task A_redrive_slower_than_one_a_day_is_refused_by_name()
    {
        using Rig rig = await Rig.CreateAsync();

        Func<Task> redrive = async () => await rig.Deliveries.RedriveAsync(new(), 1e-300);

        (await redrive.Should().ThrowAsync<ArgumentOutOfRangeException>()).Which.ParamName.Should().Be("perSecond");
    }

    [Fact]
    public async Task A_payload_of_more_than_a_mebibyte_is_refused()
    {
        using Rig rig = await Rig.CreateAsync();

        Func<Task> largest = async () => await rig.Outbox.EnqueueAsync(new WebhookEvent("a", new byte[1_048_576], "acme"));
        Func<Task> larger = async () => await rig.Outbox.EnqueueAsync(new WebhookEvent("a", new byte[1_048_577], "acme"));

        await largest.Should().NotThrowAsync();
        await larger.Should().ThrowAsync<ArgumentException>();
    }

    [Fact]
    public async Task An_event_without_an_id_gets_one_that_can_be_signed()
    {
        using Rig rig = await Rig.CreateAsync();

        string[] ids = [await rig.Outbox.EnqueueAsync(new("a", default, "acme")), await rig.Outbox.EnqueueAsync(new("a", default, "acme"))];

        ids.Should().OnlyHaveUniqueItems().And.OnlyContain(id => id.StartsWith("msg_") && !id.Contains('.'));
    }

    private static async Task<string[]> KeysAsync(Rig rig, string id) =>
        [.. Secrets.Keys((await rig.Store.FindEndpointAsync(id))!.Secrets, rig.Time.GetUtcNow(), rig.Options).Select(key => key.Secret)];
}
