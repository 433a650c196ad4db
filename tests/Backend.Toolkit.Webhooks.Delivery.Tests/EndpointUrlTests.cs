using System.Net;
using CsCheck;

namespace Backend.Toolkit.Webhooks.Delivery.Tests;

public sealed class EndpointUrlTests
{
    [Theory]
    [InlineData("")]
    [InlineData("example.com/hooks")]
    [InlineData("/hooks")]
    [InlineData("http://example.com/")]
    [InlineData("ftp://example.com/")]
    [InlineData("file:///etc/passwd")]
    [InlineData("gopher://example.com/")]
    [InlineData("https://user@example.com/")]
    [InlineData("https://user:password@example.com/")]
    [InlineData("https://example.com@127.0.0.1/")]
    [InlineData("https://example.com/#fragment")]
    [InlineData("https://example.com\\@127.0.0.1/")]
    [InlineData("https://example.com/\r\nHost: other")]
    [InlineData("https://exam ple.com/")]
    [InlineData("https://127.0.0.1/")]
    [InlineData("https://127.1/")]
    [InlineData("https://2130706433/")]
    [InlineData("https://0x7f000001/")]
    [InlineData("https://0177.0.0.1/")]
    [InlineData("https://[::1]/")]
    [InlineData("https://[::ffff:127.0.0.1]/")]
    [InlineData("https://[::ffff:7f00:1]/")]
    [InlineData("https://[fd00:ec2::254]/")]
    [InlineData("https://[fe80::1%25eth0]/")]
    [InlineData("https://[2606:4700:4700::1111%25eth0]/")]
    [InlineData("https://[2606:4700:4700::1111%1]/")]
    [InlineData("https://127%2e0%2e0%2e1/")]
    [InlineData("https://127.0.0.1./")]
    [InlineData("https://0x7f.0.0.0x1/")]
    [InlineData("https://[64:ff9b:1::7f00:1]/")]
    [InlineData("https://169.254.169.254/latest/meta-data/")]
    [InlineData("https://１２７.0.０.１/")]
    [InlineData("https://①②⑦.⓪.⓪.①/")]
    [InlineData("https://ｌocalhost/")]
    [InlineData("https://localhost/")]
    [InlineData("https://LOCALHOST./")]
    [InlineData("https://printer/")]
    [InlineData("https://service.internal/")]
    [InlineData("https://host.local/")]
    [InlineData("https://1.2.3.4.5/")]
    [InlineData("https://example.com:22/")]
    [InlineData("https://example.com:1023/")]
    public void An_endpoint_that_leads_inside_or_says_more_than_an_address_is_refused_with_a_reason(string url)
    {
        var rules = new EndpointRules(new WebhookDeliveryOptions { Name = "tests" });

        string? refusal = rules.Refusal(url, out Uri? uri);

        refusal.Should().NotBeNullOrEmpty();
        uri.Should().BeNull();
    }

    [Theory]
    [InlineData("https://example.com")]
    [InlineData("https://example.com/hooks?tenant=1")]
    [InlineData("https://example.com:8443/")]
    [InlineData("https://xn--bcher-kva.example.com/")]
    [InlineData("https://8.8.8.8/")]
    [InlineData("https://[2606:4700:4700::1111]/")]
    public void A_public_endpoint_is_accepted(string url)
    {
        var rules = new EndpointRules(new WebhookDeliveryOptions { Name = "tests" });

        string? refusal = rules.Refusal(url, out Uri? uri);

        refusal.Should().BeNull();
        uri.Should().NotBeNull();
    }

    [Theory]
    [InlineData("http://127.1")]
    [InlineData("http://[::ffff:127.0.0.1]")]
    [InlineData("http://１２７.0.０.１")]
    public async Task Nothing_of_such_an_endpoint_is_stored(string url)
    {
        using var database = new SqliteDatabase();
        using var store = Support.Store(database, TimeProvider.System);
        await store.PrepareAsync();
        var endpoints = new WebhookEndpoints(new WebhookDeliveryOptions { Name = "tests", AllowHttp = true }, store);

        Func<Task> create = async () => await endpoints.CreateAsync("acme", url);

        (await create.Should().ThrowAsync<WebhookEndpointRefusedException>()).Which.Message.Should().NotBeEmpty();
        (await endpoints.ListAsync(null)).Should().BeEmpty();
    }

    [Theory]
    [InlineData("https://hooks.example.com/", true)]
    [InlineData("https://HOOKS.example.com/", true)]
    [InlineData("https://deep.hooks.example.com/", true)]
    [InlineData("https://partner.org/", true)]
    [InlineData("https://example.com/", false)]
    [InlineData("https://notexample.com/", false)]
    [InlineData("https://sub.partner.org/", false)]
    public void Where_hosts_are_named_others_are_refused(string url, bool accepted)
    {
        var rules = new EndpointRules(new WebhookDeliveryOptions { Name = "tests", AllowedHosts = { "*.example.com", "partner.org" } });

        string? refusal = rules.Refusal(url, out _);

        (refusal is null).Should().Be(accepted);
    }

    [Fact]
    public void Where_ports_are_named_others_are_refused()
    {
        var rules = new EndpointRules(new WebhookDeliveryOptions { Name = "tests", AllowedPorts = { 8443 } });

        string? named = rules.Refusal("https://example.com:8443/", out _);
        string? other = rules.Refusal("https://example.com/", out _);

        named.Should().BeNull();
        other.Should().Contain("443");
    }

    [Fact]
    public void One_address_that_fails_refuses_the_host()
    {
        var rules = new EndpointRules(new WebhookDeliveryOptions { Name = "tests" });

        Action mixed = () => rules.Checked([IPAddress.Parse("8.8.8.8"), IPAddress.Parse("10.0.0.1")]);
        Action none = () => rules.Checked([]);
        IReadOnlyList<IPAddress> good = rules.Checked([IPAddress.Parse("8.8.8.8")]);

        mixed.Should().Throw<WebhookEndpointRefusedException>().Which.Message.Should().NotContain("10.0");
        none.Should().Throw<WebhookEndpointRefusedException>();
        good.Should().HaveCount(1);
    }

    [Fact]
    public void Whatever_is_given_as_a_URL_is_accepted_or_refused_and_never_an_inner_address()
    {
        var rules = new EndpointRules(new WebhookDeliveryOptions { Name = "tests", AllowHttp = true });
        string[] known = ["http://", "https://", "127.0.0.1", "[::1]", "0x7f.1", "@", ":", "/", "\\", "%2f", "#", "１２７", ".", "localhost", "example.com", "8.8.8.8"];
        Gen<string> part = Gen.Int[0, known.Length].SelectMany(index => index < known.Length ? Gen.Const(known[index]) : Gen.String);

        part.Array[1, 6].Select(string.Concat).Sample(url =>
        {
            string? refusal = rules.Refusal(url, out Uri? uri);
            return refusal is not null || (uri!.UserInfo.Length == 0 && (!IPAddress.TryParse(uri.DnsSafeHost, out IPAddress? address) || AddressRules.IsAllowed(address, [])));
        }, iter: 100_000);
    }
}
