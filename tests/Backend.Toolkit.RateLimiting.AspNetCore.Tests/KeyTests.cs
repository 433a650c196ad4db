using System.Net;
using System.Security.Claims;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.RateLimiting.AspNetCore.Tests;

public sealed class KeyTests
{
    [Theory]
    [InlineData("10.0.0.1", "10.0.0.1", true)]
    [InlineData("10.0.0.1", "10.0.0.2", false)]
    [InlineData("::ffff:10.0.0.1", "10.0.0.1", true)]
    [InlineData("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true)]
    [InlineData("2001:db8:1:2::1", "2001:db8:1:3::1", false)]
    [InlineData("::1", "0.0.0.1", false)]
    [InlineData("fe80::1%3", "fe80::2%4", true)]
    public void Addresses_share_a_key_by_prefix(string one, string other, bool same) =>
        (RateLimitKeys.IpPrefix(From(one)) == RateLimitKeys.IpPrefix(From(other))).Should().Be(same);

    [Fact]
    public void Requests_without_what_is_looked_for_have_the_key_of_null()
    {
        var context = new DefaultHttpContext();

        RateLimitKeys.IpPrefix(context).Should().Be(default(RateLimitKey));
        RateLimitKeys.User(context).Should().Be(default(RateLimitKey));
        RateLimitKeys.Header("X-Api-Key")(context).Should().Be(default(RateLimitKey));
    }

    [Fact]
    public void Users_and_api_keys_are_told_apart()
    {
        var context = new DefaultHttpContext { User = new ClaimsPrincipal(new ClaimsIdentity([new Claim(ClaimTypes.NameIdentifier, "42"), new Claim(ClaimTypes.Name, "ada")], "test")) };
        context.Request.Headers["X-Api-Key"] = "secret";

        RateLimitKeys.User(context).Should().Be(new RateLimitKey("42"));
        RateLimitKeys.Header("X-Api-Key")(context).Should().Be(new RateLimitKey("secret"));
    }

    [Fact]
    public void A_user_without_an_identifier_is_known_by_name_and_one_who_is_not_authenticated_not_at_all()
    {
        var named = new DefaultHttpContext { User = new ClaimsPrincipal(new ClaimsIdentity([new Claim(ClaimTypes.Name, "ada")], "test")) };
        var claimed = new DefaultHttpContext { User = new ClaimsPrincipal(new ClaimsIdentity([new Claim(ClaimTypes.NameIdentifier, "42"), new Claim(ClaimTypes.Name, "ada")])) };

        RateLimitKeys.User(named).Should().Be(new RateLimitKey("ada"));
        RateLimitKeys.User(claimed).Should().Be(default(RateLimitKey));
    }

    [Theory]
    [InlineData("null")]
    [InlineData("throws")]
    [InlineData("megabyte")]
    [InlineData("control")]
    public async Task Keys_of_all_kinds_are_limited(string kind)
    {
        await using Server server = await Server.StartAsync(
            app => app.UseRateLimits("api"),
            services => services.AddTokenBucketLimiter<HttpContext>(
                "api",
                _ => kind switch { "null" => null, "throws" => throw new InvalidOperationException("no"), "megabyte" => new string('x', 1_000_000), _ => "\0\r\n\ud800" },
                o => o.Limits.Add(new RateLimit(1, TimeSpan.FromMinutes(1)))),
            use: false);

        using HttpResponseMessage first = await server.Client.GetAsync("/");
        using HttpResponseMessage second = await server.Client.GetAsync("/");

        first.StatusCode.Should().Be(HttpStatusCode.NotFound, "nothing is there");
        second.StatusCode.Should().Be(HttpStatusCode.TooManyRequests);
    }

    [Fact]
    public void An_admitted_request_costs_at_most_192_bytes_headers_and_feature_included()
    {
        using ServiceProvider services = new ServiceCollection().AddRateLimits().AddLogging()
            .AddTokenBucketLimiter<HttpContext>("api", RateLimitKeys.IpPrefix, o => o.Limits.Add(new RateLimit(1_000_000, TimeSpan.FromSeconds(1)))).BuildServiceProvider();
        IApplicationBuilder app = new ApplicationBuilder(services);
        app.UseRateLimits("api");
        app.Run(_ => Task.CompletedTask);
        RequestDelegate pipeline = app.Build();
        DefaultHttpContext context = From("10.0.0.1");
        int completed = 0;

        for (int i = 0; i < 200; i++)
        {
            Request();
        }

        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 100; i++)
        {
            Request();
        }

        ((GC.GetAllocatedBytesForCurrentThread() - before) / 100).Should().BeInRange(1, 192);
        completed.Should().Be(300);
        context.Response.Headers["RateLimit"].ToString().Should().StartWith("\"api\";r=");

        void Request()
        {
            // As a server does between requests.
            context.Features.Set<RequestRateLimits>(null);
            completed += pipeline(context).IsCompletedSuccessfully ? 1 : 0;
        }
    }

    private static DefaultHttpContext From(string address)
    {
        var context = new DefaultHttpContext();
        context.Connection.RemoteIpAddress = IPAddress.Parse(address);
        return context;
    }
}
